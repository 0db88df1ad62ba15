/** What it costs to look for due deliveries and to claim some, by the very statements of the gateway. */

import pg from "pg";
import { claimDue, listDueWebhooks } from "../../server/store/delivery-claims.ts";

export interface StatementCost {
  /** Pages of 8 KiB that were looked at. */
  pageCount: number;
  rowCount: number;
  durationMs: number;
}

/** The look over all webhooks, and a claim of up to `room` deliveries of each of these; nothing is changed. */
export async function measureClaim(
  databaseUrl: string,
  webhookIds: readonly number[],
  room: number,
): Promise<{ look: StatementCost; claim: StatementCost }> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const asked = webhookIds.map((webhookId) => ({ webhookId, room }));
    const now = new Date();
    const look = await explain(client, (pool) => listDueWebhooks(pool));
    const claim = await explain(client, (pool) => claimDue(pool, asked, now, now));
    return { look, claim };
  } finally {
    await client.end();
  }
}

/** Catches the statement that `ask` would run, and runs it for the figures alone. */
async function explain(client: pg.Client, ask: (pool: pg.Pool) => Promise<unknown>): Promise<StatementCost> {
  const caught: { text: string; values: unknown[] }[] = [];
  const catcher = {
    query(statement: { text: string; values: unknown[] }) {
      caught.push(statement);
      return Promise.resolve({ rows: [] });
    },
  };
  await ask(catcher as unknown as pg.Pool);
  const [{ text, values }] = caught as [{ text: string; values: unknown[] }];
  await client.query("BEGIN");
  await client.query(
    "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off",
  );
  const { rows } = await client.query(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${text}`, values);
  await client.query("ROLLBACK");
  const [{ Plan: plan, "Execution Time": durationMs }] = rows[0]["QUERY PLAN"];
  const pageCount = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];
  return { pageCount, rowCount: plan["Actual Rows"], durationMs };
}
