/** Options of a webhook, with types and defaults from the transformer's own JSON Schema. */

/**
 * The options that a schema describes, as a type. Write the schema with `as const`. An option with a `default`, or one
 * that is `required`, is always there; kinds of values that are not listed here are `unknown`.
 */
export type OptionsOf<Schema> = Schema extends { readonly properties: infer Properties }
  ? {
      readonly [Name in keyof Properties]:
        | ValueOf<Properties[Name]>
        | (IsAlwaysThere<Schema, Name, Properties[Name]> extends true ? never : undefined);
    }
  : Readonly<Record<string, unknown>>;

type IsAlwaysThere<Schema, Name, Property> = Property extends { readonly default: unknown }
  ? true
  : Schema extends { readonly required: readonly (infer Required)[] }
    ? Name extends Required
      ? true
      : false
    : false;

type ValueOf<Property> = Property extends { readonly enum: readonly (infer Value)[] }
  ? Value
  : Property extends { readonly type: "string" }
    ? string
    : Property extends { readonly type: "integer" | "number" }
      ? number
      : Property extends { readonly type: "boolean" }
        ? boolean
        : Property extends { readonly type: "array"; readonly items: infer Entry }
          ? readonly ValueOf<Entry>[]
          : unknown;

/**
 * The webhook's options, those that it leaves out filled in with the schema's `default`. The gateway has checked them
 * against the schema before, so the types hold.
 *
 * @param optionsSchema  the very schema of the transformer, written with `as const`
 * @param options        `input.options`
 */
export function readOptions<const Schema extends { readonly properties: Readonly<Record<string, unknown>> }>(
  optionsSchema: Schema,
  options: Readonly<Record<string, unknown>>,
): OptionsOf<Schema> {
  const read: Record<string, unknown> = {};
  for (const [name, property] of Object.entries(optionsSchema.properties)) {
    read[name] = Object.hasOwn(options, name)
      ? options[name]
      : (property as { default?: unknown } | null)?.default;
  }
  return read as OptionsOf<Schema>;
}

/**
 * Formats that `optionsSchema` may name beside those of JSON Schema; the gateway checks options against them too.
 *
 * - `iana-time-zone`: a name of the time zone database, such as `Europe/Berlin` or `UTC`; no offset such as `+02:00`
 */
export const optionFormats: Readonly<Record<string, (value: string) => boolean>> = {
  "iana-time-zone": isTimeZoneName,
};

function isTimeZoneName(value: string): boolean {
  // Intl takes offsets such as `+02:00` for time zones; no name starts with anything but a letter.
  if (!/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/.test(value)) return false;
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: value });
    return true;
  } catch {
    return false;
  }
}
