/** The transformers that come with the gateway, for every thread that loads them. All of them are pure. */

import cloudevents from "./cloudevents/transformer.ts";
import insights from "./insights/transformer.ts";
import intelli from "./intelli/transformer.ts";
import raw from "./raw/transformer.ts";
import slack from "./slack/transformer.ts";
import type { Transformer } from "./transformer.ts";

export const builtinTransformers: readonly Transformer[] = [cloudevents, insights, intelli, raw, slack];

/** Those that look at the event alone. The conversation stays out of their jobs, which makes these half as long. */
export const eventOnlyTransformers: ReadonlySet<Transformer> = new Set([cloudevents, intelli, raw]);
