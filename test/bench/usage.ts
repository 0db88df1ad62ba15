/** What a stretch of work cost: processor time of each part, and bytes of the database. */

import type { Lab, Sender } from "./lab.ts";
import { cpuSecondsOf } from "./processes.ts";

/** Each for a thousand deliveries. */
export interface Usage {
  /** Processor time in seconds by part; null where the system does not tell it. */
  cpuSeconds: Record<"sender" | "postgres" | "load" | "endpoint", number | null>;
  /** Growth of tables and indexes. */
  tableBytes: number;
  /** Written to PostgreSQL's log of changes. */
  walBytes: number;
}

/** Begins to count; the function that it gives ends that, and divides by the number of deliveries. */
export async function countUsage(
  lab: Lab,
  sender: Sender,
): Promise<(deliveryCount: number) => Promise<Usage>> {
  const before = await readAll(lab, sender);
  return async (deliveryCount) => {
    const after = await readAll(lab, sender);
    const perThousand = (late: number, early: number) => ((late - early) / deliveryCount) * 1_000;
    const seconds = (part: keyof Usage["cpuSeconds"]) => {
      const [early, late] = [before.cpu[part], after.cpu[part]];
      return early === null || late === null ? null : perThousand(late, early);
    };
    return {
      cpuSeconds: {
        sender: seconds("sender"),
        postgres: seconds("postgres"),
        load: seconds("load"),
        endpoint: seconds("endpoint"),
      },
      tableBytes: perThousand(after.sizes.tableBytes, before.sizes.tableBytes),
      walBytes: perThousand(after.sizes.walBytes, before.sizes.walBytes),
    };
  };
}

async function readAll(lab: Lab, sender: Sender) {
  const [own, load, endpoint, postgres] = await Promise.all([
    cpuSecondsOf(sender === "relay" ? lab.relay.pid! : lab.gateway.pid, false),
    cpuSecondsOf(lab.load.pid!, false),
    cpuSecondsOf(lab.endpoint.pid, true),
    cpuSecondsOf(lab.database.pid, true),
  ]);
  return { cpu: { sender: own, load, endpoint, postgres }, sizes: await lab.database.sizes() };
}
