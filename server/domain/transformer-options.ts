/** Checks `transformer_options` against the JSON Schema (draft 2020-12) that the transformer declares. */

import { Ajv2020, type ErrorObject, type ValidateFunction } from "ajv/dist/2020.js";
import ajvFormats from "ajv-formats";

/** Null if the options fit, else one sentence that names the option and the rule. */
export type OptionsCheck = (
  schema: Readonly<Record<string, unknown>> | undefined,
  options: object,
) => string | null;

/**
 * Makes a check that compiles each schema once. A transformer without a schema takes whatever it is given.
 *
 * @param formats  what schemas may name in `format` beside the formats of JSON Schema
 */
export function createOptionsCheck(
  formats: Readonly<Record<string, (value: string) => boolean>>,
): OptionsCheck {
  const compiled = new WeakMap<object, ValidateFunction | string>();
  return (schema, options) => {
    if (schema === undefined) return null;
    let validate = compiled.get(schema);
    if (validate === undefined) {
      validate = compile(schema, formats);
      compiled.set(schema, validate);
    }
    if (typeof validate === "string") return validate;
    return validate(options) ? null : describe(validate.errors?.[0]);
  };
}

/** What is wrong with a schema itself, as a sentence; null = nothing. */
export function findSchemaFault(
  schema: Readonly<Record<string, unknown>> | undefined,
  formats: Readonly<Record<string, (value: string) => boolean>>,
): string | null {
  if (schema === undefined) return null;
  // Ajv answers for such a schema with a promise, which would pass for yes.
  if (schema.$async !== undefined) return 'its optionsSchema must not be "$async"';
  const validate = compile(schema, formats);
  return typeof validate === "string" ? validate : null;
}

/** An Ajv of its own for each schema: two versions of a plugin may give theirs the same `$id`. */
function compile(
  schema: Readonly<Record<string, unknown>>,
  formats: Readonly<Record<string, (value: string) => boolean>>,
): ValidateFunction | string {
  // Not strict: what JSON Schema allows is no fault of the webhook's owner. No log: nothing here writes to the console.
  const ajv = new Ajv2020({ strict: false, logger: false });
  ajvFormats.default(ajv);
  for (const [name, validate] of Object.entries(formats)) ajv.addFormat(name, validate);
  try {
    return ajv.compile(schema);
  } catch (error) {
    return `its optionsSchema is no valid JSON Schema (${error instanceof Error ? error.message : error})`;
  }
}

function describe(error: ErrorObject | undefined): string {
  if (error === undefined) return "they are refused";
  const path = error.instancePath.slice(1).replaceAll("/", ".");
  const detail =
    error.keyword === "additionalProperties"
      ? `${JSON.stringify(error.params.additionalProperty)} is no option of it`
      : error.keyword === "enum"
        ? `must be one of ${JSON.stringify(error.params.allowedValues)}`
        : (error.message ?? "is refused");
  return path === "" ? detail : `${path} ${detail}`;
}
