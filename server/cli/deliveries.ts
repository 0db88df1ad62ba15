import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import {
  DeliverySchema,
  DeliveryService,
  GetDeliveryResponseSchema,
  GetDeliveryStatsResponseSchema,
} from "../../gen/posthorn/v1/delivery_service_pb.ts";
import {
  addCommand,
  addListCommand,
  type CommonOptions,
  type ListOptions,
  open,
  print,
  printList,
} from "./command.ts";
import { list, pastTime, wholeNumber } from "./options.ts";
import { type Fields, printFields, printJson, printTable, showText, showTime, toFields } from "./output.ts";
import { followAttempts } from "./tail.ts";

interface FilterOptions {
  webhook?: number;
  state?: string[];
  eventType?: string;
}

interface ListFilterOptions extends ListOptions, FilterOptions {
  since?: Timestamp;
  until?: Timestamp;
}

interface StatsOptions extends CommonOptions {
  webhook?: number;
  since?: Timestamp;
  until?: Timestamp;
}

export function addDeliveries(deliveries: Command): void {
  addFilters(
    addListCommand(deliveries, "lists deliveries, newest first; a table has 50 unless told otherwise"),
  )
    .option("--since <time>", "only those made since: a time, or how long ago, such as 30m or 7d", pastTime)
    .option("--until <time>", "only those made before", pastTime)
    .action(async (options: ListFilterOptions) => {
      const service = open(options).client(DeliveryService);
      await printList(
        {
          ask: async (page) => {
            const { since, until } = options;
            const request = { ...filterOf(options), since, until, ...page };
            const { deliveries: items, nextPageToken } = await service.listDeliveries(request);
            return { items, nextPageToken };
          },
          item: DeliverySchema,
          columns: ["CREATED", "STATE", "ATTEMPTS", "WEBHOOK", "EVENT TYPE", "ID", "REASON"],
          toRow,
          tableLimit: 50,
        },
        options,
      );
    });

  addCommand(deliveries, "show", "shows one delivery with its attempts and the body that was sent")
    .argument("<id>", "id of the delivery")
    .action(show);

  addCommand(deliveries, "retry", "sends a delivery again, with the same id and bytes")
    .argument("<id>", "id of the delivery")
    .action(async (id: string, options: CommonOptions) => {
      const { delivery } = await open(options).client(DeliveryService).retryDelivery({ id });
      print(toFields(DeliverySchema, delivery), options);
    });

  addFilters(
    addCommand(
      deliveries,
      "tail",
      "prints attempts as they end, until it is stopped, and goes on without a gap when the gateway was away; with " +
        "--json one JSON document a line",
    ),
  ).action(async (options: CommonOptions & FilterOptions) => {
    const service = open(options).client(DeliveryService);
    const filter = filterOf(options);
    await followAttempts(
      // No deadline: it lasts until somebody ends it.
      (resumeToken, signal) => service.watchDeliveries({ ...filter, resumeToken }, { timeoutMs: 0, signal }),
      options.json === true,
    );
  });

  addCommand(deliveries, "stats", "counts deliveries and attempts of the last 24 hours, or of another time")
    .option("--webhook <id>", "only those to this webhook", wholeNumber)
    .option("--since <time>", "only those made since: a time, or how long ago, such as 30m or 7d", pastTime)
    .option("--until <time>", "only those made before", pastTime)
    .action(async (options: StatsOptions) => {
      const { webhook: webhookId, since, until } = options;
      const answer = await open(options)
        .client(DeliveryService)
        .getDeliveryStats({ webhookId, since, until });
      print(toFields(GetDeliveryStatsResponseSchema, answer), options);
    });
}

function addFilters(command: Command): Command {
  return command
    .option("--webhook <id>", "only those to this webhook", wholeNumber)
    .option("--state <states>", "only those in these states, such as failed; several with commas", list)
    .option("--event-type <type>", "only those of events of this type");
}

function filterOf(options: FilterOptions) {
  return { webhookId: options.webhook, states: options.state ?? [], eventType: options.eventType };
}

async function show(id: string, options: CommonOptions): Promise<void> {
  const answer = await open(options).client(DeliveryService).getDelivery({ id });
  if (options.json) return printJson(toFields(GetDeliveryResponseSchema, answer));
  printFields(toFields(DeliverySchema, answer.delivery));
  const { attempts } = toFields(GetDeliveryResponseSchema, answer) as unknown as { attempts: Fields[] };
  process.stdout.write("\n");
  printTable(
    ["ATTEMPT", "STARTED", "MS", "OUTCOME", "STATUS", "ERROR", "ANSWER"],
    attempts.map(toAttemptRow),
  );
  if (answer.body === undefined) return;
  process.stdout.write(`\n${answer.contentType}\n${showText(Buffer.from(answer.body).toString("utf8"))}\n`);
}

const answerCharactersMax = 60;

function toAttemptRow(attempt: Fields): string[] {
  const error = [attempt.error_kind, attempt.error_message].filter((part) => part !== undefined).join(": ");
  return [
    String(attempt.number),
    showTime(attempt.started_at),
    String(attempt.duration_ms),
    String(attempt.outcome),
    String(attempt.response_status ?? "-"),
    error || "-",
    String(attempt.response_body ?? "").slice(0, answerCharactersMax) || "-",
  ];
}

function toRow(delivery: Fields): string[] {
  return [
    showTime(delivery.created_at),
    String(delivery.state),
    String(delivery.attempt_count),
    String(delivery.webhook_id),
    String(delivery.event_type),
    String(delivery.id),
    String(delivery.reason ?? "-"),
  ];
}
