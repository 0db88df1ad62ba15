import type { Command } from "commander";
import {
  ClientSchema,
  ClientService,
  DeleteClientResponseSchema,
} from "../../gen/posthorn/v1/client_service_pb.ts";
import {
  addCommand,
  addListCommand,
  type CommonOptions,
  type ListOptions,
  open,
  print,
  printList,
} from "./command.ts";
import { list, secretFile } from "./options.ts";
import { type Fields, toFields } from "./output.ts";

interface ClientOptions extends CommonOptions {
  number?: string[];
  waba?: string[];
  accessTokenFile?: string;
  appSecretFile?: string;
  clear?: string[];
}

export function addClients(clients: Command): void {
  addFields(addCommand(clients, "create", "registers a client"))
    .argument("<client_ref>", "its name")
    .action(async (clientRef: string, options: ClientOptions) => {
      const { client } = await open(options)
        .client(ClientService)
        .createClient({ clientRef, ...fieldsOf(options) });
      print(toFields(ClientSchema, client), options);
    });

  addListCommand(clients, "lists the clients").action(async (options: ListOptions) => {
    const service = open(options).client(ClientService);
    await printList(
      {
        ask: async (page) => {
          const { clients: items, nextPageToken } = await service.listClients(page);
          return { items, nextPageToken };
        },
        item: ClientSchema,
        columns: ["CLIENT", "NUMBERS", "ACCOUNTS", "ACCESS TOKEN", "APP SECRET"],
        toRow,
      },
      options,
    );
  });

  addCommand(clients, "get", "shows one client")
    .argument("<client_ref>", "its name")
    .action(async (clientRef: string, options: CommonOptions) => {
      const { client } = await open(options).client(ClientService).getClient({ clientRef });
      print(toFields(ClientSchema, client), options);
    });

  addFields(addCommand(clients, "update", "changes what is given; numbers and accounts as whole lists"))
    .option("--clear <fields>", "fields to empty: phone_numbers, waba_ids, access_token, app_secret", list)
    .argument("<client_ref>", "its name")
    .action(async (clientRef: string, options: ClientOptions) => {
      const updateMask = options.clear && { paths: options.clear };
      const change = { clientRef, ...fieldsOf(options), updateMask };
      const { client } = await open(options).client(ClientService).updateClient(change);
      print(toFields(ClientSchema, client), options);
    });

  addCommand(clients, "delete", "removes a client for good, and frees its numbers")
    .argument("<client_ref>", "its name")
    .option("--force", "delete the webhooks that name it too, and cancel what is pending")
    .action(async (clientRef: string, options: CommonOptions & { force?: true }) => {
      const request = { clientRef, force: options.force === true };
      const answer = await open(options).client(ClientService).deleteClient(request);
      print(
        { client_ref: clientRef, deleted: true, ...toFields(DeleteClientResponseSchema, answer) },
        options,
      );
    });
}

function addFields(command: Command): Command {
  return command
    .option("--number <ids>", "phone_number_id, or phone_number_id=+49 30 1234; several with commas", list)
    .option("--waba <ids>", "ids of its WhatsApp business accounts; several with commas", list)
    .option(
      "--access-token-file <path>",
      "file with its token for Meta's Graph API; - = standard input",
      secretFile,
    )
    .option(
      "--app-secret-file <path>",
      "file with the secret of an app of its own; - = standard input",
      secretFile,
    );
}

function fieldsOf(options: ClientOptions) {
  return {
    phoneNumbers: (options.number ?? []).map((text) => {
      const [phoneNumberId = "", displayPhoneNumber] = text.split("=", 2);
      return { phoneNumberId, ...(displayPhoneNumber !== undefined && { displayPhoneNumber }) };
    }),
    wabaIds: options.waba ?? [],
    // The parser of these options gives what the file holds.
    ...(options.accessTokenFile !== undefined && { accessToken: options.accessTokenFile }),
    ...(options.appSecretFile !== undefined && { appSecret: options.appSecretFile }),
  };
}

function toRow(client: Fields): string[] {
  const numbers = client.phone_numbers as { phone_number_id: string; display_phone_number?: string }[];
  const shown = numbers.map(
    (one) => one.phone_number_id + (one.display_phone_number ? ` (${one.display_phone_number})` : ""),
  );
  return [
    String(client.client_ref),
    shown.join(", ") || "-",
    (client.waba_ids as string[]).join(", ") || "-",
    client.has_access_token ? "yes" : "no",
    client.has_app_secret ? "yes" : "no",
  ];
}
