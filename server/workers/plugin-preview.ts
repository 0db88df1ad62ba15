/**
 * Payloads that somebody wants to look at. A plugin makes them in a process of their own: what a caller hands in may be
 * made to end it, and no delivery is to depend on that.
 */

import type { Transformer } from "../../plugins/transformer.ts";
import { GatewayError } from "../domain/errors.ts";
import type { TransformTask } from "./job.ts";
import { type PluginChild, startPluginChild } from "./plugin-child.ts";
import { readEnd, type TransformOutcome } from "./plugin-host.ts";
import type { PluginEntry, PluginLimits } from "./plugin-protocol.ts";
import { makePayload } from "./transform.ts";

export interface Previews {
  /**
   * @param entry  null = one of our own makes it, which needs no process
   * @throws GatewayError `over_limit` while others look at theirs
   */
  run(task: TransformTask, entry: PluginEntry | null): Promise<TransformOutcome>;
  close(): Promise<void>;
}

/** A process takes a good part of a second of a core to start. */
const runningMax = 2;

export function createPreviews(builtin: readonly Transformer[], limits: PluginLimits): Previews {
  const builtinByName = new Map(builtin.map((one) => [one.name, one]));
  const running = new Set<PluginChild>();
  let isClosed = false;

  return {
    async run(task, entry) {
      const startMs = performance.now();
      if (entry === null) {
        const result = await makePayload(task, builtinByName, limits.budgetMs);
        return { ...result, durationMs: performance.now() - startMs, isPure: true };
      }
      if (isClosed) throw new GatewayError("unavailable", "the gateway is stopping, try again");
      if (running.size >= runningMax) {
        throw new GatewayError(
          "over_limit",
          `${runningMax} previews run already, try again in a few seconds`,
        );
      }
      const ignore = () => undefined;
      const child = startPluginChild({
        entry,
        limits,
        onEnded: ignore,
        onOutput: ignore,
        onLateFault: ignore,
      });
      running.add(child);
      try {
        return await runIn(child, task);
      } finally {
        await child.close(0);
        running.delete(child);
      }
    },
    async close() {
      isClosed = true;
      await Promise.all([...running].map((child) => child.close(0)));
    },
  };
}

async function runIn(child: PluginChild, task: TransformTask): Promise<TransformOutcome> {
  const loaded = await child.load();
  // Its files changed since they were loaded for deliveries.
  if (loaded.kind === "refused" || loaded.description.name !== task.transformer) {
    return { kind: "held", reason: `transformer ${task.transformer} does not load as its files are now` };
  }
  const end = await child.transform(task);
  const isPure = loaded.description.pure === true;
  if (end.kind === "died") return { kind: "transformer_error", message: end.reason, durationMs: 0, isPure };
  return { ...readEnd(end, loaded.description.version), isPure };
}
