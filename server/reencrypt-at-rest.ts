/** The second way into this program beside `app.ts`: opens the database alone, for work on what lies in it. */

import type { Config } from "./config.ts";
import { openEmbeddedPostgres } from "./store/embedded/open.ts";
import { openDatabase } from "./store/orm.ts";
import { type ReencryptionReport, reencryptSecrets } from "./store/reencrypt.ts";

/**
 * Encrypts all secrets of the configured database with the first configured master key. The embedded PostgreSQL is
 * started if it does not run, and left as it was found.
 *
 * @param warn  told what is worth knowing and no failure
 * @throws Error or GatewayError saying what to do
 */
export async function reencryptAtRest(
  config: Config,
  warn: (message: string) => void,
): Promise<ReencryptionReport> {
  const log = { info: () => undefined, warn: (_fields: unknown, message: string) => warn(message) };
  const embedded =
    config.database.url === null ? await openEmbeddedPostgres({ dataDir: config.dataDir, log }) : null;
  try {
    const url = config.database.url ?? embedded!.url;
    const onConnectionError = (error: Error) => warn(`a database connection broke: ${error.message}`);
    const database = await openDatabase(url, { onConnectionError });
    try {
      return await reencryptSecrets(database, config.keys.masterKeys);
    } finally {
      await database.close();
    }
  } finally {
    await embedded?.close();
  }
}
