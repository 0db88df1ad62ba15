/**
 * Which gateway processes follow the configuration, and how far each has got. A change may only return when no process
 * will start another attempt by what was before; so the one that made it waits until every other process has seen it,
 * or has been silent for so long that it has stopped starting attempts by itself.
 */

import { randomUUID } from "node:crypto";
import type pg from "pg";
import { readConfigurationVersion } from "./configuration.ts";

/** How long a process counts as alive after a sign of life. */
const aliveMs = 3_000;
/** A process that could not give a sign of life for so long takes itself for left behind: well before others do. */
const currentMs = 2_000;
/** The first looks follow each other closely: the others are usually there within a few milliseconds. */
const lookAgainMs = [1, 1, 1, 2, 2, 5];
const forgottenAfterMs = 60_000;

export interface Follower {
  /** Gives a sign of life, with the version seen, and tells the version that there is. */
  beat(seenVersion: bigint): Promise<bigint>;
  /** True while the others wait for this process, so that what it has seen may be acted on. */
  isCurrent(): boolean;
  /** Settles when every other process has seen this version or is silent; after three seconds and a bit at most. */
  waitForOthers(version: bigint): Promise<void>;
  /** Takes this process off the list. */
  leave(): Promise<void>;
}

export function createFollower(pool: pg.Pool): Follower {
  const id = randomUUID();
  let currentUntilMs = 0;
  return {
    async beat(seenVersion) {
      const startedAtMs = performance.now();
      const [, found] = await Promise.all([
        pool.query({
          name: "follower-beat",
          text: `INSERT INTO gateway_process (id, seen_version, alive_until)
            VALUES ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
            ON CONFLICT (id) DO UPDATE SET seen_version = excluded.seen_version, alive_until = excluded.alive_until`,
          values: [id, seenVersion, aliveMs],
        }),
        pool.query<{ version: string }>(readConfigurationVersion),
      ]);
      currentUntilMs = startedAtMs + currentMs;
      return BigInt(found.rows[0]!.version);
    },
    isCurrent: () => performance.now() < currentUntilMs,
    async waitForOthers(version) {
      const endMs = performance.now() + aliveMs + currentMs;
      for (let look = 0; performance.now() < endMs; look++) {
        const behind = await pool.query({
          name: "followers-behind",
          text: `SELECT FROM gateway_process
            WHERE seen_version < $1 AND alive_until > clock_timestamp() AND id <> $2 LIMIT 1`,
          values: [version, id],
        });
        if (behind.rowCount === 0) return;
        await new Promise((resolve) => setTimeout(resolve, lookAgainMs[look] ?? lookAgainMs.at(-1)));
      }
    },
    async leave() {
      await pool.query(
        `DELETE FROM gateway_process
         WHERE id = $1 OR alive_until < clock_timestamp() - $2 * interval '1 millisecond'`,
        [id, forgottenAfterMs],
      );
    },
  };
}
