/**
 * Payloads that operators' plugins make, between the dispatcher and the sending threads, which load no such code.
 *
 *   dispatcher ──task──► plugin ──payload──► stored, unless the plugin is pure ──► dispatcher ──► sending threads
 *
 * A payload comes back to the dispatcher instead of going on, because the webhook may have changed meanwhile: URL,
 * secrets and status are those at the start of the attempt.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { AttemptReport, MadePayload } from "../domain/attempt-report.ts";
import { type NewPayload, storePayloads } from "../store/delivery-payloads.ts";
import type { Database } from "../store/orm.ts";
import type { TransformTask } from "../workers/job.ts";
import type { PluginPool } from "../workers/plugin-pool.ts";
import type { Held } from "./lanes.ts";

export interface Maker {
  /** Makes the payload of a delivery that this process holds; one of the callbacks tells what became of it. */
  make(held: Held, task: TransformTask): void;
}

export interface MakerParts {
  database: Pick<Database, "pool">;
  plugins: Pick<PluginPool, "transform">;
  /** The payloads are part of their claims now, and may be sent. */
  onMade(held: readonly Held[]): void;
  /** No request is to be made: the plugin had nothing to send, or went wrong. */
  onEnded(held: Held, report: AttemptReport): void;
  /** Nothing was made for now: the plugin cannot run, or the payload could not be stored. */
  onHeld(held: readonly Held[]): void;
  clock: Clock;
  log: Logger;
}

/** Payloads that one statement stores at most; each may have 256 KiB. */
const storedTogetherMax = 100;

export function createMaker(parts: MakerParts): Maker {
  const { clock, log } = parts;
  const unstored: (NewPayload & { held: Held })[] = [];
  let isStoring = false;

  async function make(held: Held, task: TransformTask): Promise<void> {
    const startedAtMs = clock.now().getTime();
    const outcome = await parts.plugins.transform(task);
    if (outcome.kind === "held") return parts.onHeld([held]);
    if (outcome.kind !== "made") {
      const { kind, durationMs } = outcome;
      const { id, webhookId, attemptNumber } = held.claimed;
      const report = {
        deliveryId: id,
        webhookId,
        attemptNumber,
        startedAtMs,
        durationMs: Math.round(durationMs),
      };
      return parts.onEnded(
        held,
        kind === "skipped" ? { ...report, kind } : { ...report, ...errorOf(outcome) },
      );
    }
    const { payload } = outcome;
    if (outcome.isPure) {
      // Made again it would be the same, so it may be stored with its attempt, as those of our own are.
      held.unstored = payload;
      claimWith(held, payload);
      return parts.onMade([held]);
    }
    unstored.push({ held, claimed: held.claimed, transformer: task.transformer, payload });
    if (!isStoring) void storeAll();
  }

  /** What is made while a statement is under way shares the next one. */
  async function storeAll(): Promise<void> {
    isStoring = true;
    while (unstored.length > 0) {
      const batch = unstored.splice(0, storedTogetherMax);
      try {
        const stored = await storePayloads(parts.database.pool, batch);
        const { made = [], lost = [] } = Object.groupBy(batch, ({ claimed }) =>
          stored.has(claimed.id) ? "made" : "lost",
        );
        for (const { held, payload } of made) claimWith(held, payload);
        if (made.length > 0) parts.onMade(made.map(({ held }) => held));
        if (lost.length > 0) parts.onHeld(lost.map(({ held }) => held));
      } catch (error) {
        log.warn({ err: error, count: batch.length }, "payloads could not be stored; their deliveries wait");
        parts.onHeld(batch.map(({ held }) => held));
      }
    }
    isStoring = false;
  }

  return {
    make(held, task) {
      void make(held, task);
    },
  };
}

function claimWith(held: Held, { body, contentType, headers }: MadePayload): void {
  held.claimed.payload = { body, contentType, headers };
}

function errorOf({ message }: { message: string }) {
  return { kind: "transformer_error" as const, message };
}
