/** Two gateways on one database, of which one dies, or stands still for longer than its leases and comes back. */

import { spawnGateway } from "../../helpers/gateway.ts";
import { queryRows } from "../../helpers/query-rows.ts";
import { waitFor } from "../../helpers/wait.ts";
import { waitForEnds } from "../judge.ts";
import { startLoad } from "../load.ts";
import { type Outcome, openScene } from "../scene.ts";

export interface TwoGatewaysOptions {
  databaseUrl: string;
  ratePerSecond: number;
  /**
   * `killed`: `kill -9`. `paused`: SIGSTOP in the middle of a transaction, until the other has taken all leases over; then
   * SIGCONT.
   */
  fault: "killed" | "paused";
}

/** What the contract allows for the leases of a dead process. */
const takeOverMsMax = 30_000;
const pauseTriesMax = 100;
/** A transaction that stands still keeps its locks for 10 s at most. */
const heldUpMsMax = 20_000;

export async function loseOneOfTwo(options: TwoGatewaysOptions): Promise<Outcome> {
  const { databaseUrl, ratePerSecond, fault } = options;
  const env = { DATABASE_URL: databaseUrl };
  // Slow enough that the second gateway has requests under way whenever it goes.
  const scene = await openScene({ databaseUrl, answerOf: () => ({ delayMs: 1_000 }) });
  const second = await spawnGateway(env);
  try {
    const { gateway, ledger } = scene;
    const webhooks = [await scene.addWebhook("one")];
    let urls = [gateway.url(), second.url()];
    const load = startLoad({
      urls: () => urls,
      ledger,
      ratePerSecond,
      prefix: `wamid.${fault}`,
      answerTimeoutMs: 5_000,
    });
    await waitFor(
      "events of both",
      () => ledger.takenCountAt("one"),
      (count) => count > ratePerSecond,
      60_000,
    );
    if (fault === "killed") await second.kill("SIGKILL");
    else await pauseInTransaction(second.pid(), databaseUrl);
    // What it did not answer is posted again, to the other.
    urls = [gateway.url()];
    const goneAtMs = performance.now();
    // What the second one held in its hands when it went.
    const held = await idsOfLeases(databaseUrl);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await load.finish();
    const heldUpMs = Math.round(performance.now() - goneAtMs);
    await waitFor(
      "end of what was held",
      () => countStillLeased(databaseUrl, held),
      (count) => count === 0,
      takeOverMsMax + 5_000,
    );
    const takenOverMs = Math.round(performance.now() - goneAtMs);
    await waitForEnds(databaseUrl, webhooks, 60_000);
    if (fault === "paused") {
      // The one that comes back has reports to settle that count no more.
      process.kill(second.pid(), "SIGCONT");
      await waitForAnswer(second.url());
    }
    const outcome = await scene.judge(`two gateways, one ${fault}`, webhooks);
    if (held.length > 0 && outcome.lostAttempts === 0)
      outcome.faults.push("no held attempt was logged as lost");
    if (heldUpMs > heldUpMsMax) outcome.faults.push(`the other took no events for ${heldUpMs} ms`);
    if (takenOverMs > takeOverMsMax) outcome.faults.push(`leases were free only after ${takenOverMs} ms`);
    outcome.notes.push(
      `${held.length} leases, taken over within ${takenOverMs} ms`,
      `what was posted until a second later was acknowledged by the other within ${heldUpMs} ms`,
    );
    return outcome;
  } finally {
    if (fault === "paused") process.kill(second.pid(), "SIGCONT");
    await second.close();
    await scene.close();
  }
}

/** Stops a gateway at a moment when it has written something and not committed it: others may wait for that. */
async function pauseInTransaction(pid: number, databaseUrl: string): Promise<void> {
  const findIdle = () =>
    queryRows(databaseUrl)(
      `SELECT pid, xact_start::text FROM pg_stat_activity
       WHERE datname = current_database() AND state = 'idle in transaction' AND backend_xid IS NOT NULL`,
    );
  for (let tryNumber = 1; tryNumber <= pauseTriesMax; tryNumber++) {
    process.kill(pid, "SIGSTOP");
    const before = new Set((await findIdle()).map((row) => `${row.pid} ${row.xact_start}`));
    await new Promise((resolve) => setTimeout(resolve, 200));
    // The other gateway's have ended by now.
    if ((await findIdle()).some((row) => before.has(`${row.pid} ${row.xact_start}`))) return;
    process.kill(pid, "SIGCONT");
    await new Promise((resolve) => setTimeout(resolve, tryNumber));
  }
  throw new Error(`no open transaction was met in ${pauseTriesMax} tries`);
}

async function idsOfLeases(databaseUrl: string): Promise<string[]> {
  const rows = await queryRows(databaseUrl)("SELECT id FROM delivery WHERE leased_until IS NOT NULL");
  return rows.map((row) => row.id);
}

async function countStillLeased(databaseUrl: string, ids: string[]): Promise<number> {
  const [row] = await queryRows(databaseUrl)(
    "SELECT count(*)::int AS count FROM delivery WHERE id = ANY($1::uuid[]) AND finished_at IS NULL",
    [ids],
  );
  return row.count;
}

/** Bounded by the time that it stands still, and some. */
async function waitForAnswer(url: string): Promise<void> {
  await waitFor(
    "the gateway that came back",
    () => fetch(`${url}/readyz`).then((response) => response.status),
    (status) => status === 200,
    takeOverMsMax,
  );
}
