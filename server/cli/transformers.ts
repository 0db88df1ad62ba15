import type { Command } from "commander";
import { TransformerSchema, TransformerService } from "../../gen/posthorn/v1/transformer_service_pb.ts";
import { addListCommand, type ListOptions, open, printList } from "./command.ts";
import type { Fields } from "./output.ts";

export function addTransformers(transformers: Command): void {
  addListCommand(
    transformers,
    "lists what turns events into payloads, and what is wrong with plugins that do not load",
  ).action(async (options: ListOptions) => {
    const service = open(options).client(TransformerService);
    await printList(
      {
        ask: async (page) => {
          const { transformers: items, nextPageToken } = await service.listTransformers(page);
          return { items, nextPageToken };
        },
        item: TransformerSchema,
        columns: ["NAME", "VERSION", "HEALTH", "PAYLOADS", "ERRORS", "P99 MS", "FILE OR FAULT"],
        toRow,
      },
      options,
    );
  });
}

function toRow(transformer: Fields): string[] {
  const { name, version, health, builtin, file, duration_p99_ms: p99Ms } = transformer;
  return [
    String(name ?? ""),
    String(version ?? ""),
    String(health),
    // Those that come with the gateway run where requests are sent, uncounted.
    builtin ? "" : String(transformer.payload_count),
    String(transformer.error_count),
    p99Ms === undefined ? "" : String(p99Ms),
    String(transformer.health_reason ?? file ?? (builtin ? "comes with the gateway" : "")),
  ];
}
