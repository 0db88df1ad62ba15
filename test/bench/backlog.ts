/**
 * How fast deliveries go out that have piled up in the database. The first two thousand are real: published while their
 * webhook is paused. SQL makes the rest by copying them under ids of their own, so that every row is as the gateway
 * writes it. Then the webhook is resumed, for a third of them at a time, and the relay takes its turns between.
 */

import { nowMs } from "./bodies.ts";
import { ratioOf, spreadOf } from "./figures.ts";
import type { Lab } from "./lab.ts";
import { roundCount } from "./peak.ts";
import type { Curve, Section } from "./section.ts";
import { deliveredCount, fill, runBurst, settle, waitForArrivals } from "./traffic.ts";

const backlogCount = 200_000;
const publishedCount = 2_000;
const relayEventCount = 20_000;
/** Points of the plotted curve lie at least so far apart. */
const pointEveryMs = 200;

export async function measureBacklog(lab: Lab): Promise<Section> {
  const count = Math.ceil((backlogCount * lab.scale) / publishedCount) * publishedCount;
  await setPaused(lab, true);
  await fill(lab, "backlog", publishedCount);
  await multiply(lab, count / publishedCount);
  const waiting = await lab.database.countByState(lab.webhookIds.backlog);
  if (waiting.pending !== count) throw new Error(`${waiting.pending} deliveries wait, not ${count}`);

  const rates: { relay: number[]; gateway: number[] } = { relay: [], gateway: [] };
  const curve: Curve = { label: "gateway", points: [] };
  let drainedMs = 0;
  for (let round = 1; round <= roundCount; round++) {
    const relayed = await runBurst(lab, "relay", "backlog", Math.ceil(relayEventCount * lab.scale));
    rates.relay.push(relayed.deliveriesPerSecond);
    const goneBefore = await deliveredCount(lab, "backlog");
    const goal = Math.round((count * round) / roundCount);
    const arrivedBefore = await lab.endpoint.arrivedCount();
    const startMs = nowMs();
    await setPaused(lab, false);
    const endMs = await waitForArrivals(lab, arrivedBefore + goal - goneBefore, (arrived) => {
      const x = drainedMs + nowMs() - startMs;
      if (x - (curve.points.at(-1)?.x ?? -pointEveryMs) < pointEveryMs) return;
      curve.points.push({ x, y: count - goneBefore - (arrived - arrivedBefore) });
    });
    rates.gateway.push(((goal - goneBefore) / (endMs - startMs)) * 1_000);
    drainedMs += endMs - startMs;
    // What is in hand still goes out: it is not of this round, and the next one starts with what is left.
    await setPaused(lab, true);
    await waitUntilQuiet(lab);
  }
  await settle(lab, "backlog", count);
  const [relay, gateway] = [spreadOf(rates.relay), spreadOf(rates.gateway)];
  return {
    name: "Backlog",
    title: `Draining a backlog of ${count.toLocaleString("en-US")} due deliveries, one webhook`,
    notes: [
      `All ${count.toLocaleString("en-US")} due at once; from the call that resumes the webhook to the arrival of each third, ${(drainedMs / 1_000).toFixed(1)} s in all. The relay has no backlog: its rate is end to end, as at the peak.`,
    ],
    measures: [
      {
        label: "from the table to the endpoint",
        unit: "deliveries/s",
        gateway,
        relay,
        ratio: ratioOf(gateway, relay),
        bar: { text: "≥ 8,000/s", isMet: gateway.median >= 8_000 },
      },
    ],
    chart: {
      title: "Backlog, deliveries that wait",
      xLabel: "seconds",
      curves: [{ ...curve, points: curve.points.map(({ x, y }) => ({ x: x / 1_000, y: Math.max(0, y) })) }],
    },
  };
}

async function setPaused(lab: Lab, paused: boolean): Promise<void> {
  await lab.gateway.call("WebhookService/UpdateWebhook", { id: lab.webhookIds.backlog[0], paused });
}

/** Waits until no attempt is in flight and none has been recorded for a moment. */
async function waitUntilQuiet(lab: Lab): Promise<void> {
  const endMs = nowMs() + 30_000;
  for (;;) {
    const { rows } = await lab.database.pool.query(
      "SELECT count(*)::int AS count FROM delivery WHERE leased_until IS NOT NULL",
    );
    if (rows[0].count === 0) return;
    if (nowMs() > endMs) throw new Error("attempts are in flight long after their webhook was paused");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Makes `factor` deliveries of each pending one of the backlog. */
async function multiply(lab: Lab, factor: number): Promise<void> {
  const client = await lab.database.pool.connect();
  try {
    await client.query("BEGIN");
    await client.query(
      `CREATE TEMP TABLE copied ON COMMIT DROP AS
       SELECT d.webhook_id, d.tenant_id, d.event_id, uuidv7() AS new_event_id, uuidv7() AS new_id
       FROM delivery d CROSS JOIN generate_series(2, $2) WHERE d.webhook_id = $1 AND d.state = 'pending'`,
      [lab.webhookIds.backlog[0], factor],
    );
    await client.query(
      `INSERT INTO event (tenant_id, id, client_id, type, phone_number_id, waba_id, occurred_at, received_at,
         conversation_id, sequence, details, item)
       SELECT e.tenant_id, c.new_event_id, e.client_id, e.type, e.phone_number_id, e.waba_id, e.occurred_at,
         e.received_at, e.conversation_id, e.sequence, e.details, e.item
       FROM copied c JOIN event e ON e.tenant_id = c.tenant_id AND e.id = c.event_id ORDER BY c.new_event_id`,
    );
    await client.query(
      `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, due_at)
       SELECT c.webhook_id, c.new_id, c.tenant_id, c.new_event_id, d.event_type, 'pending', d.due_at
       FROM copied c JOIN delivery d ON d.webhook_id = c.webhook_id AND d.event_id = c.event_id ORDER BY c.new_id`,
    );
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
  // What the server's own helper has long done by the time a real backlog has grown so large.
  await lab.database.pool.query("VACUUM (ANALYZE) event, delivery");
}
