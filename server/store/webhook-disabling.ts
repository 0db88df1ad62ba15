/** A webhook that the gateway turns off by itself: a change of configuration as any other, with its reason and an event. */

import { whyDisabled } from "../domain/gateway-event.ts";
import { noteAudit } from "./audit.ts";
import { changeConfiguration } from "./configuration.ts";
import { WebhookSchema } from "./entities/webhook.ts";
import { type FailureStreak, takeStreak } from "./failure-streaks.ts";
import { noteDisabled } from "./gateway-notices.ts";
import type { Database } from "./orm.ts";
import { cancelReplies } from "./outgoing-list.ts";

/**
 * Turns a webhook off for its failures, if its streak still is as `isEnough` wants it. To be announced as every change of
 * configuration; what is not finished is to be canceled then (`cancelUnfinished`). Of several processes one does it.
 *
 * @returns the streak that it was turned off for; null if it was left as it is
 */
export async function disableWebhook(
  database: Database,
  webhookId: number,
  isEnough: (streak: FailureStreak) => boolean,
  now: Date,
): Promise<(FailureStreak & { reason: string }) | null> {
  return await changeConfiguration(database, async (em, version) => {
    const row = await em.findOne(WebhookSchema, { id: webhookId, isEnabled: true, deletedAt: null });
    const streak = await takeStreak(em, webhookId);
    if (row === null || streak === null || !isEnough(streak)) throw new StreakEnded();
    const reason = whyDisabled(streak);
    em.assign(row, { isEnabled: false, disabledReason: reason, disabledAt: now, version, updatedAt: now });
    await em.flush();
    await cancelReplies(em, webhookId, "webhook_disabled", now);
    await noteDisabled(em, row.tenantId, { reason, ...streak }, now);
    const { tenantId } = row;
    const changes = { status: false, disabled_reason: reason };
    const subjectId = String(webhookId);
    await noteAudit(em, { tenantId, actor: "gateway", action: "webhook.disabled", subjectId, changes }, now);
    return { reason, ...streak };
  }).catch((error: unknown) => {
    if (error instanceof StreakEnded) return null;
    throw error;
  });
}

/** Rolls the change back, so that what is left of the streak stays and no version is raised. */
class StreakEnded extends Error {}
