/**
 * Which deliveries, or missed events, a recovery comes to next: webhook by webhook, oldest first, a bounded stretch of
 * the log at a time. Counting and taking up look in the same way, so that they mean the same things.
 */

import type pg from "pg";
import { coversType } from "../domain/event.ts";
import { firstIdAt } from "../domain/ids.ts";
import { admits, type WebhookTarget } from "../domain/webhook.ts";
import { findDelivered, readEventRows } from "../store/missed-events.ts";
import { findWebhook, type OpenRecovery, type Position, readDeliveries } from "../store/recovery-turns.ts";

export interface WalkParts {
  /** A webhook as this process knows it; undefined if it is deleted. */
  webhookOf(id: number): WebhookTarget | undefined;
  /** Event types that a transformer makes payloads of; undefined if it is not loaded. */
  handlesOf(transformer: string): readonly string[] | undefined;
}

export interface Match {
  /** Of the delivery, or of the event that has none. */
  id: string;
  eventType: string;
}

export interface Look {
  /** 0 = there was none to look at any more. */
  webhookId: number;
  /** At most as many as were asked for. */
  matches: Match[];
  /** Where the next look begins; null = there is nothing more. */
  position: Position | null;
}

/** Before every id that a row can have. */
const noId = firstIdAt(0);

/**
 * Looks at the next stretch.
 *
 * @param matchesMax  the look ends with so many matches
 * @param rowsMax     and after so many rows, matches or not
 */
export async function lookAhead(
  client: pg.ClientBase | pg.Pool,
  parts: WalkParts,
  recovery: OpenRecovery,
  position: Position,
  matchesMax: number,
  rowsMax: number,
): Promise<Look> {
  const webhookId = await findWebhook(client, recovery, position);
  if (webhookId === null) return { webhookId: 0, matches: [], position: null };
  const afterId = position.webhookId === webhookId ? position.afterId : null;
  const { rows, isMatch } =
    recovery.states.length === 0
      ? await readMissed(client, parts, recovery, webhookId, afterId, rowsMax)
      : await readLogged(client, recovery, webhookId, afterId, rowsMax);
  const found = rows.filter(isMatch);
  const matches = found.slice(0, matchesMax);
  const last = found.length > matchesMax ? matches.at(-1)! : rows.at(-1);
  const isAtEnd = found.length <= matchesMax && rows.length < rowsMax;
  return {
    webhookId,
    matches,
    position: isAtEnd ? { webhookId: webhookId + 1, afterId: null } : { webhookId, afterId: last!.id },
  };
}

interface Stretch {
  rows: Match[];
  isMatch(row: Match): boolean;
}

async function readLogged(
  client: pg.ClientBase | pg.Pool,
  recovery: OpenRecovery,
  webhookId: number,
  afterId: string | null,
  rowsMax: number,
): Promise<Stretch> {
  const { states, startedAt } = recovery;
  const asked = { webhookId, ...idRange(recovery, afterId, null), states, startedAt };
  const rows = await readDeliveries(client, asked, rowsMax);
  const fitIds = new Set(rows.filter(({ isFit }) => isFit).map(({ id }) => id));
  return { rows, isMatch: (row) => fitIds.has(row.id) && coversAny(recovery.eventTypes, row.eventType) };
}

async function readMissed(
  client: pg.ClientBase | pg.Pool,
  parts: WalkParts,
  recovery: OpenRecovery,
  webhookId: number,
  afterId: string | null,
  rowsMax: number,
): Promise<Stretch> {
  const webhook = parts.webhookOf(webhookId);
  if (!webhook) return { rows: [], isMatch: () => false };
  const asked = { tenantId: recovery.tenantId, ...idRange(recovery, afterId, webhook.createdAt) };
  const events = await readEventRows(client, asked, rowsMax);
  // What a missing plugin would handle is not known: its deliveries wait until it is back.
  const handles = parts.handlesOf(webhook.transformer) ?? ["*"];
  const wantedIds = events
    .filter(
      ({ type, clientId, isErased }) =>
        !isErased && coversAny(recovery.eventTypes, type) && admits(webhook, { type, clientId }, handles),
    )
    .map(({ id }) => id);
  const deliveredIds = await findDelivered(client, webhookId, wantedIds);
  const missedIds = new Set(wantedIds.filter((id) => !deliveredIds.has(id)));
  return {
    rows: events.map(({ id, type }) => ({ id, eventType: type })),
    isMatch: ({ id }) => missedIds.has(id),
  };
}

/** Both ends not included. */
function idRange(
  { sinceAt, untilAt }: OpenRecovery,
  afterId: string | null,
  notBefore: Date | null,
): { afterId: string; beforeId: string } {
  const sinceMs = Math.max(sinceAt?.getTime() ?? 0, notBefore?.getTime() ?? 0);
  return {
    afterId: afterId ?? (sinceMs > 0 ? firstIdAt(sinceMs) : noId),
    beforeId: firstIdAt(untilAt.getTime()),
  };
}

function coversAny(patterns: readonly string[], type: string): boolean {
  return patterns.length === 0 || patterns.some((pattern) => coversType(pattern, type));
}
