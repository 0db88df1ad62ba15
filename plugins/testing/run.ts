/** Runs a transformer as the gateway does, with the same checks of what it gives. */

import { describeTransformer } from "../../server/workers/catalog.ts";
import { makePayload } from "../../server/workers/transform.ts";
import type { Transformer, TransformerOptions } from "../transformer.ts";
import { findOptionsFault } from "./options.ts";
import type { Sample } from "./samples.ts";

/** What comes of a sample. */
export type Result =
  /** The payload as an endpoint gets it; `text` is `body` read as UTF-8. */
  | {
      readonly kind: "made";
      readonly text: string;
      readonly body: Uint8Array;
      readonly contentType: string;
      readonly headers: Readonly<Record<string, string>>;
    }
  /** `transform` gave `undefined`: nothing is sent. */
  | { readonly kind: "skipped" }
  /** The delivery would end as `failed`, `transformer_error`. */
  | { readonly kind: "failed"; readonly message: string };

/** The gateway's default for POSTHORN_TRANSFORM_TIMEOUT_MS. */
export const budgetMs = 250;

/**
 * What the gateway would send for a sample.
 *
 * @param options  the webhook's `transformer_options`
 * @throws Error if the transformer's own schema refuses the options: the gateway would not take such a webhook
 */
export async function transformSample(
  transformer: Transformer,
  sample: Sample,
  options: TransformerOptions = {},
): Promise<Result> {
  const fault = findOptionsFault(transformer, options);
  if (fault !== null)
    throw new Error(`transformer ${transformer.name} does not take these options: ${fault}`);
  const result = await makePayload(
    { ...limitHistory(transformer, sample, options), transformer: transformer.name, options: { ...options } },
    new Map([[transformer.name, transformer]]),
    budgetMs,
  );
  if (result.kind === "transformer_error") return { kind: "failed", message: result.message };
  if (result.kind === "skipped") return result;
  const { body, contentType, headers } = result.payload;
  return { kind: "made", text: new TextDecoder().decode(body), body, contentType, headers };
}

/** The transformer gets as many messages as its `history` asks for. */
function limitHistory(
  transformer: Transformer,
  { task }: Sample,
  options: TransformerOptions,
): Sample["task"] {
  if (task.conversation === null) return task;
  const count = describeTransformer(transformer).historyCount({ ...options });
  const { messages, lastUserMessage, lastBotMessage } = task.conversation;
  return {
    ...task,
    conversation: {
      ...task.conversation,
      messages: messages.slice(0, count),
      lastUserMessage: count === 0 ? null : lastUserMessage,
      lastBotMessage: count === 0 ? null : lastBotMessage,
    },
  };
}
