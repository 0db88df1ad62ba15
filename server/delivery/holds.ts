/** Which webhooks' deliveries wait because nothing can be made for them: asked for each delivery, answered once. */

import type { WebhookTarget } from "../domain/webhook.ts";
import { findHold, type RuleContext } from "../domain/webhook-rules.ts";

/** Why deliveries of the webhook wait; null if its transformer can make their payloads. */
export type HoldCheck = (target: WebhookTarget) => string | null;

/** Judges a webhook again when it or its transformer has changed, by whether they are the same objects. */
export function createHoldCheck(rules: RuleContext): HoldCheck {
  const known = new WeakMap<WebhookTarget, { facts: unknown; hold: string | null }>();
  return (target) => {
    const facts = rules.transformers.get(target.transformer);
    const before = known.get(target);
    if (before !== undefined && before.facts === facts) return before.hold;
    const hold = findHold(target, rules);
    known.set(target, { facts, hold });
    return hold;
  };
}
