import type { JsonObject } from "@bufbuild/protobuf";
import type { Command } from "commander";
import {
  CreateWebhookResponseSchema,
  RotateWebhookSecretResponseSchema,
  TestWebhookResponseSchema,
  WebhookSchema,
  WebhookService,
} from "../../gen/posthorn/v1/webhook_service_pb.ts";
import {
  addCommand,
  addListCommand,
  type CommonOptions,
  type ListOptions,
  open,
  print,
  printList,
} from "./command.ts";
import { exitCodes } from "./fault.ts";
import { header, jsonObject, list, secretFile, wholeNumber } from "./options.ts";
import { type Fields, printNote, toFields } from "./output.ts";

interface WebhookOptions extends CommonOptions {
  enabled?: boolean;
  incoming?: boolean;
  outgoing?: boolean;
  scheduleActivity?: boolean;
  waitingDuration?: number;
  signed?: boolean;
  transformer?: string;
  eventType?: string[];
  client?: string;
  transformerOptions?: JsonObject;
  header?: Record<string, string>;
  maxInFlight?: number;
  paused?: boolean;
  description?: string;
}

const secretNote = "The signing secret is shown this once: keep it now.";

export function addWebhooks(webhooks: Command): void {
  addFields(
    addCommand(
      webhooks,
      "create",
      "registers an endpoint: enabled, for incoming events and signed, unless told otherwise",
    ),
  )
    .argument("<url>", "full URL of the endpoint")
    .option(
      "--signature-secret-file <path>",
      "file with a signing secret of your own; - = standard input",
      secretFile,
    )
    .option("--idempotency-key <text>", "makes it safe to send the same command again")
    .action(create);

  addListCommand(webhooks, "lists the webhooks").action(async (options: ListOptions) => {
    const service = open(options).client(WebhookService);
    await printList(
      {
        ask: async (page) => {
          const { webhooks: items, nextPageToken } = await service.listWebhooks(page);
          return { items, nextPageToken };
        },
        item: WebhookSchema,
        columns: ["ID", "STATE", "TRANSFORMER", "TRIGGERS", "SIGNED", "CLIENT", "URL"],
        toRow,
      },
      options,
    );
  });

  addCommand(webhooks, "get", "shows one webhook; never its secret")
    .argument("<id>", "id of the webhook", wholeNumber)
    .action(async (id: number, options: CommonOptions) => {
      const { webhook } = await open(options).client(WebhookService).getWebhook({ id });
      print(toFields(WebhookSchema, webhook), options);
    });

  addFields(addCommand(webhooks, "update", "changes what is given"))
    .argument("<id>", "id of the webhook", wholeNumber)
    .option("--url <url>", "full URL of the endpoint")
    .option(
      "--clear <fields>",
      "fields to empty, such as event_types, client_ref, headers, description",
      list,
    )
    .action(update);

  addCommand(webhooks, "delete", "removes a webhook for good, and cancels what is pending")
    .argument("<id>", "id of the webhook", wholeNumber)
    .action(async (id: number, options: CommonOptions) => {
      await open(options).client(WebhookService).deleteWebhook({ id });
      print({ id, deleted: true }, options);
    });

  addCommand(webhooks, "rotate", "gives a webhook a new signing secret, and shows it this once")
    .argument("<id>", "id of the webhook", wholeNumber)
    .option("--overlap <seconds>", "how long the secret before it stays live (default: 86400)", wholeNumber)
    .option(
      "--signature-secret-file <path>",
      "file with a signing secret of your own; - = standard input",
      secretFile,
    )
    .action(rotate);

  addCommand(webhooks, "test", "sends a sample event now; ends with 1 if the endpoint does not take it")
    .argument("<id>", "id of the webhook", wholeNumber)
    .option("--event-type <type>", "type of the sample event")
    .action(tryOut);
}

/** In pairs, so that what is not given stays as it is. */
function addFields(command: Command): Command {
  return command
    .option("--enabled", "deliver events to it")
    .option("--no-enabled", "deliver nothing to it")
    .option("--incoming", "trigger: what a WhatsApp user does")
    .option("--no-incoming", "without this trigger")
    .option("--outgoing", "trigger: what happens to messages that the business sends")
    .option("--no-outgoing", "without this trigger")
    .option("--schedule-activity", "schedule replies from the endpoint's answers")
    .option("--no-schedule-activity", "schedule nothing")
    .option("--waiting-duration <seconds>", "longest delay of a scheduled reply", wholeNumber)
    .option("--signed", "sign requests")
    .option("--no-signed", "do not sign requests")
    .option("--transformer <name>", "makes the payloads (default: insights)")
    .option("--event-type <types>", "only events of these types; several with commas", list)
    .option("--client <client_ref>", "only events of this client")
    .option("--transformer-options <json>", "options of the transformer", jsonObject)
    .option("--header <header>", "extra request header, 'Name: value'; may be repeated", header)
    .option("--max-in-flight <count>", "attempts in flight at once (default: 64)", wholeNumber)
    .option("--paused", "hold deliveries")
    .option("--no-paused", "send them, and those that were held")
    .option("--description <text>", "free text");
}

function fieldsOf(options: WebhookOptions) {
  return {
    status: options.enabled,
    incoming: options.incoming,
    outgoing: options.outgoing,
    scheduleActivity: options.scheduleActivity,
    waitingDuration: options.waitingDuration,
    activeSignature: options.signed,
    transformer: options.transformer,
    eventTypes: options.eventType ?? [],
    clientRef: options.client,
    transformerOptions: options.transformerOptions,
    headers: options.header ?? {},
    maxInFlight: options.maxInFlight,
    paused: options.paused,
    description: options.description,
  };
}

async function create(
  url: string,
  options: WebhookOptions & { signatureSecretFile?: string; idempotencyKey?: string },
): Promise<void> {
  const answer = await open(options)
    .client(WebhookService)
    .createWebhook({
      ...fieldsOf(options),
      webhooks: url,
      status: options.enabled ?? true,
      incoming: options.incoming ?? true,
      scheduleActivity: options.scheduleActivity ?? false,
      waitingDuration: options.waitingDuration ?? 0,
      activeSignature: options.signed ?? true,
      signatureSecret: options.signatureSecretFile,
      idempotencyKey: options.idempotencyKey,
    });
  print(toFields(CreateWebhookResponseSchema, answer), options);
  if (answer.signatureSecret !== undefined && !options.json) printNote(secretNote);
}

async function update(
  id: number,
  options: WebhookOptions & { url?: string; clear?: string[] },
): Promise<void> {
  const updateMask = options.clear && { paths: options.clear };
  const change = { ...fieldsOf(options), id, webhooks: options.url, updateMask };
  const { webhook } = await open(options).client(WebhookService).updateWebhook(change);
  print(toFields(WebhookSchema, webhook), options);
}

async function rotate(
  id: number,
  options: CommonOptions & { overlap?: number; signatureSecretFile?: string },
): Promise<void> {
  const answer = await open(options).client(WebhookService).rotateWebhookSecret({
    id,
    overlapSeconds: options.overlap,
    signatureSecret: options.signatureSecretFile,
  });
  print(toFields(RotateWebhookSecretResponseSchema, answer), options);
  if (!options.json) printNote(secretNote);
}

async function tryOut(id: number, options: CommonOptions & { eventType?: string }): Promise<void> {
  const answer = await open(options).client(WebhookService).testWebhook({ id, eventType: options.eventType });
  const fields = toFields(TestWebhookResponseSchema, answer);
  if (!options.json && answer.body !== undefined) fields.body = Buffer.from(answer.body).toString("utf8");
  print(fields, options);
  if (answer.attempt?.outcome !== "succeeded") process.exitCode = exitCodes.failed;
}

function toRow(webhook: Fields): string[] {
  const triggers = [webhook.incoming && "incoming", webhook.outgoing && "outgoing"].filter(Boolean);
  const held = webhook.held_reason !== undefined ? "held" : "on";
  const state = !webhook.status ? "off" : webhook.paused ? "paused" : held;
  return [
    String(webhook.id),
    state,
    String(webhook.transformer),
    triggers.join(",") || "-",
    webhook.active_signature ? "yes" : "no",
    String(webhook.client_ref ?? "-"),
    String(webhook.webhooks),
  ];
}
