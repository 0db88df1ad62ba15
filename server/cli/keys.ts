import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import {
  ApiKeySchema,
  ApiKeyService,
  CreateApiKeyResponseSchema,
} from "../../gen/posthorn/v1/api_key_service_pb.ts";
import {
  addCommand,
  addListCommand,
  type CommonOptions,
  type ListOptions,
  open,
  print,
  printList,
} from "./command.ts";
import { futureTime, list, wholeNumber } from "./options.ts";
import { type Fields, printFields, printJson, printNote, showTime, toFields } from "./output.ts";

interface CreateOptions extends CommonOptions {
  name: string;
  scope: string[];
  client?: string;
  expires?: Timestamp;
  rateLimit?: number;
}

export function addKeys(keys: Command): void {
  addCommand(keys, "create", "makes a key, and shows it this once")
    .requiredOption("--name <text>", "what to call it")
    .requiredOption("--scope <scopes>", "what it may do, such as webhooks:write; several with commas", list)
    .option("--client <client_ref>", "narrows it to one client")
    .option("--expires <time>", "when it ends: a time, or from now, such as 90d", futureTime)
    .option("--rate-limit <count>", "calls a minute; 0 = no limit (default: 300)", wholeNumber)
    .action(create);

  addListCommand(keys, "lists the keys, without what proves them").action(async (options: ListOptions) => {
    const service = open(options).client(ApiKeyService);
    await printList(
      {
        ask: async (page) => {
          const { apiKeys: items, nextPageToken } = await service.listApiKeys(page);
          return { items, nextPageToken };
        },
        item: ApiKeySchema,
        columns: ["ID", "NAME", "HINT", "STATE", "CLIENT", "LAST USED", "SCOPES"],
        toRow,
      },
      options,
    );
  });

  addCommand(keys, "revoke", "ends a key for good")
    .argument("<id>", "id of the key", wholeNumber)
    .action(async (id: number, options: CommonOptions) => {
      const { apiKey } = await open(options).client(ApiKeyService).revokeApiKey({ id });
      print(toFields(ApiKeySchema, apiKey), options);
    });
}

async function create(options: CreateOptions): Promise<void> {
  const answer = await open(options).client(ApiKeyService).createApiKey({
    name: options.name,
    scopes: options.scope,
    clientRef: options.client,
    expiresAt: options.expires,
    rateLimitPerMinute: options.rateLimit,
  });
  if (options.json) return printJson(toFields(CreateApiKeyResponseSchema, answer));
  printFields({ key: answer.key, ...toFields(ApiKeySchema, answer.apiKey) });
  printNote("The key is shown this once: keep it now.");
}

function toRow(key: Fields): string[] {
  const isExpired = typeof key.expires_at === "string" && Date.parse(key.expires_at) <= Date.now();
  const state = key.revoked_at !== undefined ? "revoked" : isExpired ? "expired" : "live";
  const scopes = (key.scopes as string[]).join(",");
  return [
    String(key.id),
    String(key.name),
    `…${key.hint}`,
    state,
    String(key.client_ref ?? "-"),
    showTime(key.last_used_at),
    scopes,
  ];
}
