/** What an operator's plugin says of itself, read on the gateway's side of the border. */

import { defineTransformer, optionFormats, type Transformer } from "../../plugins/transformer.ts";
import { findSchemaFault } from "../domain/transformer-options.ts";
import { describeTransformer, type TransformerFacts } from "./catalog.ts";
import type { PluginDescription } from "./plugin-protocol.ts";

export interface LoadedPlugin {
  /** As the plugin describes itself; its `transform` is not here. */
  transformer: Omit<Transformer, "transform">;
  facts: TransformerFacts;
}

/** @throws Error that says what is wrong with it */
export function readDescription(told: PluginDescription): LoadedPlugin {
  const { name, version, description, handles, signature, optionsSchema, history, pure } = told;
  const transformer = defineTransformer({
    name,
    version,
    description,
    handles,
    ...(signature !== undefined && { signature }),
    ...(optionsSchema !== undefined && { optionsSchema }),
    ...(history !== undefined && { history }),
    ...(pure !== undefined && { pure }),
    transform: () => undefined,
  } satisfies Transformer);
  const schemaFault = findSchemaFault(optionsSchema, optionFormats);
  if (schemaFault !== null) throw new Error(`transformer ${JSON.stringify(name)}: ${schemaFault}`);
  return { transformer, facts: describeTransformer(transformer) };
}
