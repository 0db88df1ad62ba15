import { createOptionsCheck } from "../../server/domain/transformer-options.ts";
import { optionFormats, type Transformer, type TransformerOptions } from "../transformer.ts";

const check = createOptionsCheck(optionFormats);

/** What the transformer's own schema has against the options, as one sentence; null if it takes them. */
export function findOptionsFault({ optionsSchema }: Transformer, options: TransformerOptions): string | null {
  return check(optionsSchema, options);
}
