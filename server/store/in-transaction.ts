import type pg from "pg";
import { isRepeatable } from "./faults.ts";

const attemptsMax = 5;

/** Runs a change in a transaction of its own, again if another one was in its way. */
export async function inTransaction<T>(
  pool: pg.Pool,
  change: (client: pg.ClientBase) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const client = await pool.connect();
    try {
      await client.query("BEGIN");
      const result = await change(client);
      await client.query("COMMIT");
      client.release();
      return result;
    } catch (error) {
      await client.query("ROLLBACK").then(
        () => client.release(),
        () => client.release(true),
      );
      if (!isRepeatable(error) || attempt === attemptsMax) throw error;
    }
  }
}
