import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { DeliveryService, RecoverySchema } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import {
  addCommand,
  addListCommand,
  type CommonOptions,
  type ListOptions,
  open,
  print,
  printList,
} from "./command.ts";
import { list, pastTime, positiveNumber, wholeNumber } from "./options.ts";
import { type Fields, showTime, toFields } from "./output.ts";

interface StartOptions extends CommonOptions {
  webhook?: number;
  state?: string[];
  missed?: true;
  since?: Timestamp;
  until?: Timestamp;
  eventType?: string[];
  rate?: number;
}

export function addRecoveries(recoveries: Command): void {
  addCommand(
    recoveries,
    "start",
    "sends again what failed or was canceled, or with --missed for the first time what a webhook did not get",
  )
    .option("--webhook <id>", "only this webhook, which must be on; default: all that are on", wholeNumber)
    .option("--state <states>", "states to take from: failed, canceled, delivered; several with commas", list)
    .option("--missed", "events that the webhook admits as it is now and that have no delivery to it")
    .option("--since <time>", "only from then on: a time, or how long ago, such as 30m or 7d", pastTime)
    .option("--until <time>", "only what came before", pastTime)
    .option(
      "--event-type <types>",
      "only events of these types, such as message.*; several with commas",
      list,
    )
    .option("--rate <count>", "how many in a second; default 50", positiveNumber)
    .action(async (options: StartOptions) => {
      const { recovery } = await open(options)
        .client(DeliveryService)
        .startRecovery({
          webhookId: options.webhook,
          states: options.state ?? [],
          missed: options.missed ?? false,
          since: options.since,
          until: options.until,
          eventTypes: options.eventType ?? [],
          ratePerSecond: options.rate,
        });
      print(toFields(RecoverySchema, recovery), options);
    });

  addListCommand(recoveries, "lists recoveries, newest first; a table has 50 unless told otherwise").action(
    async (options: ListOptions) => {
      const service = open(options).client(DeliveryService);
      await printList(
        {
          ask: async (page) => {
            const { recoveries: items, nextPageToken } = await service.listRecoveries(page);
            return { items, nextPageToken };
          },
          item: RecoverySchema,
          columns: ["STARTED", "STATE", "DONE", "TOTAL", "DELIVERED", "FAILED", "WEBHOOK", "ID"],
          toRow,
          tableLimit: 50,
        },
        options,
      );
    },
  );

  addCommand(recoveries, "show", "shows how far a recovery has got")
    .argument("<id>", "id of the recovery")
    .action(async (id: string, options: CommonOptions) => {
      const { recovery } = await open(options).client(DeliveryService).getRecovery({ id });
      print(toFields(RecoverySchema, recovery), options);
    });

  addCommand(recoveries, "cancel", "ends a recovery; what it has taken up already goes on")
    .argument("<id>", "id of the recovery")
    .action(async (id: string, options: CommonOptions) => {
      const { recovery } = await open(options).client(DeliveryService).cancelRecovery({ id });
      print(toFields(RecoverySchema, recovery), options);
    });
}

function toRow(recovery: Fields): string[] {
  return [
    showTime(recovery.started_at),
    String(recovery.state),
    String(recovery.done),
    String(recovery.total ?? "-"),
    String(recovery.delivered),
    String(recovery.failed),
    String(recovery.webhook_id ?? "all"),
    String(recovery.id),
  ];
}
