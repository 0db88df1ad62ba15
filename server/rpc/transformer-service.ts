import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type {
  PreviewTransformRequest,
  TransformerSchema,
  TransformerService,
} from "../../gen/posthorn/v1/transformer_service_pb.ts";
import type { Preview, PreviewRequest } from "../delivery/preview.ts";
import { GatewayError } from "../domain/errors.ts";
import { checkOptions, type RuleContext } from "../domain/webhook-rules.ts";
import type { PluginPool } from "../workers/plugin-pool.ts";
import type { TransformerStatus } from "../workers/plugin-status.ts";
import { type Caller, callerOf } from "./auth.ts";
import type { EventServiceParts } from "./event-service.ts";
import { cutPage, isRowId, pageSizeOf, readPageToken } from "./paging.ts";

export interface TransformerServiceParts extends Pick<EventServiceParts, "splitBody" | "clock"> {
  plugins: Pick<PluginPool, "list">;
  preview: Preview;
  rules: RuleContext;
}

export function createTransformerService(
  parts: TransformerServiceParts,
): ServiceImpl<typeof TransformerService> {
  return {
    listTransformers(request, context) {
      const { isOperator } = callerOf(context);
      const shown = parts.plugins.list().filter(({ transformer }) => isOperator || transformer !== null);
      // By place: what never loaded has no name to go by.
      const numbered = shown.map((status, index) => ({ status, id: index + 1 }));
      const list = ["transformers", isOperator];
      const after = Number(readPageToken(request.pageToken, list, isRowId) ?? 0);
      const { page, nextPageToken } = cutPage(numbered.slice(after), pageSizeOf(request.pageSize), list);
      return { transformers: page.map(({ status }) => fromStatus(status, isOperator)), nextPageToken };
    },

    async previewTransform(request, context) {
      const caller = callerOf(context);
      const transformer = request.transformer ?? "";
      const options = request.transformerOptions ?? {};
      const known = parts.rules.transformers.get(transformer);
      if (known === undefined) throw notLoaded(transformer, parts.rules);
      checkOptions({ transformer, transformerOptions: options }, known, parts.rules);
      const source = readSource(request, caller);
      const made = await parts.preview(caller, { transformer, options, source });
      return {
        eventType: made.eventType,
        skipped: made.payload === null,
        contentType: made.payload?.contentType,
        body: made.payload ? new Uint8Array(made.payload.body) : undefined,
        headers: made.payload?.headers ?? {},
        transformerVersion: made.transformerVersion,
        durationMs: made.durationMs,
      };
    },
  };

  function readSource(request: PreviewTransformRequest, caller: Caller): PreviewRequest["source"] {
    const { source, eventIndex } = request;
    if (source.case === "eventId") {
      // The method asks for `webhooks:read` only, since a body of the caller's own shows nothing of the tenant's.
      if (!caller.scopes.has("events:read")) {
        throw new GatewayError(
          "forbidden",
          "the key lacks the scope events:read, which a stored event takes",
        );
      }
      return { kind: "stored", eventId: source.value };
    }
    const { events, faults } = parts.splitBody(Buffer.from(source.value ?? "", "utf8"), parts.clock.now());
    if (faults.length > 0 || events.length === 0) {
      const message = `body: ${faults.join("; ") || "holds no event"}`;
      throw new GatewayError("invalid_input", message, { field: "body" });
    }
    return { kind: "body", events, eventIndex: eventIndex ?? null };
  }
}

function notLoaded(transformer: string, { transformers }: RuleContext): GatewayError {
  const names = [...transformers.keys()].sort().join(", ");
  const message = `transformer: ${transformer} is not loaded; there are ${names}`;
  return new GatewayError("invalid_input", message, { field: "transformer" });
}

/** What is about the operator's machine, and counts of all tenants together, is the operator's to see. */
function fromStatus(
  status: TransformerStatus,
  isOperator: boolean,
): MessageInitShape<typeof TransformerSchema> {
  const { transformer, durationMs } = status;
  const history = transformer?.history ?? 0;
  const shown = {
    name: transformer?.name,
    version: transformer?.version,
    description: transformer?.description ?? "",
    handles: [...(transformer?.handles ?? [])],
    signature: transformer?.signature,
    optionsSchema: transformer?.optionsSchema as JsonObject | undefined,
    history: typeof history === "number" ? history : history.default,
    historyOption: typeof history === "number" ? undefined : history.option,
    pure: transformer?.pure ?? false,
    builtin: status.file === null,
    health: status.health,
  };
  if (!isOperator) return shown;
  return {
    ...shown,
    healthReason: status.reason ?? undefined,
    file: status.file ?? undefined,
    payloadCount: status.payloadCount,
    skippedCount: status.skippedCount,
    errorCount: status.errorCount,
    durationP50Ms: durationMs === null ? undefined : roundToMicroseconds(durationMs.p50),
    durationP99Ms: durationMs === null ? undefined : roundToMicroseconds(durationMs.p99),
  };
}

/** What comes after that is noise of the clock. */
function roundToMicroseconds(durationMs: number): number {
  return Math.round(durationMs * 1_000) / 1_000;
}
