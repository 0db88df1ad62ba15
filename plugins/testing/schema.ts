import { Ajv2020 } from "ajv/dist/2020.js";
import ajvFormats from "ajv-formats";

/**
 * Makes a check against a JSON Schema (draft 2020-12).
 *
 * @returns a function that gives one sentence with every misfit and its path, null if the value fits
 * @throws Error if the schema itself is wrong
 */
export function createBodyCheck(
  schema: Readonly<Record<string, unknown>>,
): (value: unknown) => string | null {
  const ajv = new Ajv2020({ strict: false, logger: false, allErrors: true });
  ajvFormats.default(ajv);
  const validate = ajv.compile(schema);
  return (value) =>
    validate(value)
      ? null
      : (validate.errors ?? [])
          .slice(0, 10)
          .map(({ instancePath, message, params }) =>
            `${instancePath || "/"} ${message} ${showParams(params)}`.trim(),
          )
          .join("; ");
}

/** Says which key is too much or which values there are: the message alone does not. */
function showParams(params: Record<string, unknown>): string {
  const detail = params.additionalProperty ?? params.allowedValues;
  return detail === undefined ? "" : `(${JSON.stringify(detail)})`;
}
