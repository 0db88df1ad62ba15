/**
 * A process that uses the embedded PostgreSQL as a gateway does: `node embedded-gateway.ts <dataDir> <stateDir>`.
 * It says `ready <url>`, works on for a while after SIGINT (`drained`), and closes on SIGINT and SIGTERM (`closed`).
 * An error is said as `error <kind> <message>`.
 */

import pg from "pg";
import { EmbeddedPostgresError } from "../../server/store/embedded/error.ts";
import { openEmbeddedPostgres } from "../../server/store/embedded/open.ts";

const [dataDir = "", stateDir = ""] = process.argv.slice(2);
const silent = { info: () => undefined, warn: () => undefined };

function say(line: string): void {
  process.stdout.write(`${line.replaceAll("\n", " ")}\n`);
}

try {
  const postgres = await openEmbeddedPostgres({ dataDir, stateDir, log: silent });
  const client = new pg.Client({ connectionString: postgres.url });
  client.on("error", (error) => say(`error connection ${error.message}`));
  await client.connect();

  const close = async () => {
    await client.end();
    await postgres.close();
    say("closed");
    process.exit(0);
  };
  process.once("SIGTERM", close);
  process.once("SIGINT", async () => {
    // Long enough that a PostgreSQL which got the signal, too, would have ended the statement.
    await client.query("select pg_sleep(0.5)");
    say("drained");
    await close();
  });
  say(`ready ${postgres.url}`);
} catch (error) {
  say(`error ${error instanceof EmbeddedPostgresError ? error.kind : "other"} ${error}`);
  process.exitCode = 1;
}
