/** One tenant publishes a hundred times as much as another, to an endpoint that is slower than that. */

import { type Delays, measureDelays } from "../delays.ts";
import { startEndpoint } from "../endpoint.ts";
import { judge, waitForEnds } from "../judge.ts";
import { createLedger } from "../ledger.ts";
import { startLoad } from "../load.ts";
import { callAs, type Outcome, openScene, watchMemory } from "../scene.ts";

export interface TenantOptions {
  databaseUrl: string;
  /** Events a second of the small tenant; the large one publishes a hundred times as many. */
  ratePerSecond: number;
  /** Posts of the large tenant that may wait for their answer at once. */
  openMax: number;
  aloneMs: number;
  besideMs: number;
}

export interface TenantFairness {
  outcome: Outcome;
  alone: Delays;
  beside: Delays;
}

export async function compareTenants(options: TenantOptions): Promise<TenantFairness> {
  const { databaseUrl, ratePerSecond, openMax } = options;
  const scene = await openScene({ databaseUrl });
  const { gateway } = scene;
  const largeLedger = createLedger();
  // 64 at a time and 100 ms each: 640 a second at most.
  const largeEndpoint = await startEndpoint(largeLedger, () => ({ delayMs: 100 }));
  try {
    await addTenant("small", "620000000000001");
    await addTenant("large", "620000000000002");
    const small = [await addWebhook("small", scene.endpoint.urlOf("small"))];
    const large = [await addWebhook("large", largeEndpoint.urlOf("large"))];
    const urls = () => [gateway.url()];
    const smallLoad = startLoad({
      urls,
      ledger: scene.ledger,
      ratePerSecond,
      prefix: "wamid.small",
      phoneNumberId: "620000000000001",
    });
    const startedAtMs = performance.now();
    await new Promise((resolve) => setTimeout(resolve, options.aloneMs));
    const besideAtMs = performance.now();
    const peakMib = watchMemory(gateway.pid());
    const largeLoad = startLoad({
      urls,
      ledger: largeLedger,
      ratePerSecond: ratePerSecond * 100,
      prefix: "wamid.large",
      phoneNumberId: "620000000000002",
      openMax,
    });
    await new Promise((resolve) => setTimeout(resolve, options.besideMs));
    await smallLoad.finish();
    const publishedCount = largeLedger.acknowledged.size;
    await largeLoad.finish();
    await waitForEnds(databaseUrl, [...small, ...large], 120_000);
    const outcome = await scene.judge("fair between tenants", small);
    const ofLarge = await judge(databaseUrl, largeLedger, large);
    for (const figure of ["acknowledged", "delivered", "duplicates", "lost"] as const) {
      outcome[figure] += ofLarge[figure];
    }
    outcome.faults.push(...ofLarge.faults);
    const alone = measureDelays(scene.ledger, ["small"], startedAtMs, besideAtMs);
    const beside = measureDelays(scene.ledger, ["small"], besideAtMs);
    outcome.notes.push(
      `the large tenant published ${publishedCount} events beside ${scene.ledger.acknowledged.size}`,
      `the small one's p99 ${alone.p99Ms} ms alone, ${beside.p99Ms} ms beside it, longest ${alone.longestMs} and ${beside.longestMs} ms`,
      `gateway at most ${peakMib()} MiB`,
    );
    return { outcome, alone, beside };
  } finally {
    await scene.close();
    await largeEndpoint.close();
  }

  async function addTenant(name: string, phone_number_id: string): Promise<void> {
    await callAs(gateway, "default", "TenantService/CreateTenant", { name });
    const client = { client_ref: name, phone_numbers: [{ phone_number_id }] };
    await callAs(gateway, name, "ClientService/CreateClient", client);
  }

  async function addWebhook(tenant: string, url: string) {
    const { id } = await callAs(gateway, tenant, "WebhookService/CreateWebhook", {
      webhooks: url,
      status: true,
      incoming: true,
      schedule_activity: false,
      waiting_duration: 0,
      active_signature: false,
      transformer: "raw",
    });
    return { id, endpoint: tenant };
  }
}
