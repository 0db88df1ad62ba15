/** The scene in which all is quiet again, and the log is read. */

import type { Delivery } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import type { Account } from "./checks.ts";
import type { Gateway } from "./gateway.ts";
import type { Stage } from "./stage.ts";

const settleBoundMs = 15_000;

/** The whole log once no delivery waits any more; after `settleBoundMs` as it is then. */
export async function waitUntilSettled(gateway: Gateway, stage: Stage): Promise<Delivery[]> {
  const deadlineMs = performance.now() + settleBoundMs;
  for (;;) {
    const { deliveries } = await gateway.deliveries.listDeliveries({ pageSize: 500 });
    const isSettled = deliveries.every(({ state }) => state !== "pending" && state !== "delivering");
    if (isSettled || performance.now() > deadlineMs) return deliveries;
    await stage.waitForOne(100);
  }
}

/** The delivery that met the endpoint in trouble. */
export async function readTroubled(gateway: Gateway, { arrivals }: Stage): Promise<Account["troubled"]> {
  const id = arrivals.find(({ answered }) => answered !== 200)?.webhookId;
  if (id === undefined) throw new Error("no delivery met the endpoint in trouble");
  const { attempts, body } = await gateway.deliveries.getDelivery({ id });
  return { id, attempts, body };
}
