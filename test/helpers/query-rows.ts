import pg from "pg";

// biome-ignore lint/suspicious/noExplicitAny: rows of whatever a test asks
export type QueryRows = (text: string, values?: unknown[]) => Promise<any[]>;

/** Runs statements on a database, each on a connection of its own, for a test that looks behind the gateway. */
export function queryRows(databaseUrl: string): QueryRows {
  return async (text, values) => {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    try {
      return (await client.query(text, values)).rows;
    } finally {
      await client.end();
    }
  };
}
