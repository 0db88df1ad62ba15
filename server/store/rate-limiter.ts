/** How often a key may call: counted in the database, so that all processes count together. */

import type pg from "pg";
import { RateLimiterPostgres, RateLimiterRes } from "rate-limiter-flexible";

export interface RateLimit {
  isAdmitted: boolean;
  /** Calls of a whole window. */
  limit: number;
  /** Calls left in this window. */
  remaining: number;
  /** Until the window ends. */
  resetMs: number;
}

export interface RateLimiter {
  /**
   * Counts one call. A window begins with the first call after the one before it has ended.
   *
   * @param limit  calls in a window, at least 1
   * @throws Error if the database is away: the call it is asked for could do nothing without it either
   */
  count(keyId: number, limit: number): Promise<RateLimit>;
}

const windowSecondsDefault = 60;
const tableName = "rate_limit";

export function createRateLimiter(pool: pg.Pool, windowSeconds = windowSecondsDefault): RateLimiter {
  /** The library's limiters have one limit each; there are few different ones. */
  const limiters = new Map<number, RateLimiterPostgres>();

  function limiterOf(limit: number): RateLimiterPostgres {
    let limiter = limiters.get(limit);
    if (limiter === undefined) {
      limiter = new RateLimiterPostgres({
        storeClient: pool,
        storeType: "pool",
        tableName,
        tableCreated: true,
        // Ended windows are deleted by the housekeeper, which can be closed.
        clearExpiredByTimeout: false,
        keyPrefix: "key",
        points: limit,
        duration: windowSeconds,
        // What is refused for the rest of the window costs no query.
        inMemoryBlockOnConsumed: limit + 1,
      });
      limiters.set(limit, limiter);
    }
    return limiter;
  }

  return {
    async count(keyId, limit) {
      try {
        const result = await limiterOf(limit).consume(String(keyId));
        return { isAdmitted: true, limit, remaining: result.remainingPoints, resetMs: result.msBeforeNext };
      } catch (refusal) {
        if (!(refusal instanceof RateLimiterRes)) throw refusal;
        return { isAdmitted: false, limit, remaining: 0, resetMs: refusal.msBeforeNext };
      }
    },
  };
}
