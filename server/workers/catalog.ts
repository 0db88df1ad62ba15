/** What the main thread knows of the transformers that its threads run. */

import { eventOnlyTransformers } from "../../plugins/builtin.ts";
import type { Transformer } from "../../plugins/transformer.ts";
import type { SignatureScheme } from "../domain/webhook.ts";

export interface TransformerFacts {
  name: string;
  version: string;
  handles: readonly string[];
  /** Header of its partners beside Standard Webhooks; null = none. */
  signature: SignatureScheme | null;
  /** False for those of ours that look at the event alone. */
  readsConversation: boolean;
  /** How many messages of the conversation it wants with these options, 0 to 50. */
  historyCount(options: Record<string, unknown>): number;
}

const historyMax = 50;

export function describeTransformer(transformer: Transformer): TransformerFacts {
  const { history = 0 } = transformer;
  return {
    readsConversation: !eventOnlyTransformers.has(transformer),
    name: transformer.name,
    version: transformer.version,
    handles: transformer.handles,
    signature: transformer.signature ?? null,
    historyCount(options) {
      const asked = typeof history === "number" ? history : (options[history.option] ?? history.default);
      return typeof asked === "number" ? Math.max(0, Math.min(historyMax, Math.floor(asked))) : 0;
    },
  };
}
