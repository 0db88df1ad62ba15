/** Makes the payload of an event for somebody to look at. Sends nothing and stores nothing. */

import type { MadePayload } from "../domain/attempt-report.ts";
import { GatewayError } from "../domain/errors.ts";
import { coversType, type IncomingEvent } from "../domain/event.ts";
import type { IdSource } from "../domain/ids.ts";
import type { Owner } from "../store/access.ts";
import { type History, readEvents, readHistories, type StoredEvent } from "../store/events.ts";
import type { Database } from "../store/orm.ts";
import type { PluginPool } from "../workers/plugin-pool.ts";
import { buildTask } from "./jobs.ts";
import { sampleHistory, sampleStoredEvent } from "./sample-input.ts";

export interface PreviewRequest {
  transformer: string;
  options: Record<string, unknown>;
  source:
    | { kind: "stored"; eventId: string }
    /** `eventIndex` null = the first event that the transformer handles. */
    | { kind: "body"; events: readonly IncomingEvent[]; eventIndex: number | null };
}

export interface PreviewResult {
  eventType: string;
  /** Null if the transformer has nothing to send. */
  payload: MadePayload | null;
  transformerVersion: string;
  durationMs: number;
}

/** @throws GatewayError `not_found`, `invalid_input`, `wrong_state` or `over_limit`, as PreviewTransform tells them */
export type Preview = (
  owner: Owner & { clientRef: string | null },
  request: PreviewRequest,
) => Promise<PreviewResult>;

export interface PreviewParts {
  database: Pick<Database, "pool">;
  plugins: Pick<PluginPool, "factsOf" | "preview">;
  ids: IdSource;
  clock: { now(): Date };
}

export function createPreview(parts: PreviewParts): Preview {
  const { database, plugins, ids, clock } = parts;

  return async (owner, { transformer, options, source }) => {
    const facts = plugins.factsOf(transformer);
    if (facts === undefined)
      throw new GatewayError("invalid_input", `transformer: ${transformer} is not loaded`, {
        field: "transformer",
      });
    const historyCount = facts.historyCount(options);
    const { event, history } =
      source.kind === "stored"
        ? await readStored(owner, source.eventId, historyCount)
        : fromBody(owner, chooseEvent(source, facts.handles), historyCount);
    if (!isHandled(event.type, facts.handles)) {
      const message = `transformer: ${transformer} handles ${facts.handles.join(", ")}, not ${event.type}`;
      throw new GatewayError("invalid_input", message, { field: "transformer" });
    }
    const task = buildTask(event, history, { transformer, transformerOptions: options });
    const outcome = await plugins.preview(task);
    if (outcome.kind === "held") throw new GatewayError("wrong_state", outcome.reason);
    if (outcome.kind === "transformer_error") {
      throw new GatewayError("wrong_state", `transformer ${transformer} went wrong: ${outcome.message}`);
    }
    const payload = outcome.kind === "made" ? outcome.payload : null;
    return {
      eventType: event.type,
      payload,
      transformerVersion: payload?.transformerVersion ?? facts.version,
      durationMs: outcome.durationMs,
    };
  };

  async function readStored({ tenantId, clientId }: Owner, eventId: string, historyCount: number) {
    const events = await readEvents(database.pool, [{ tenantId, eventId }]);
    const event = events.get(eventId.toLowerCase());
    if (event === undefined || (clientId !== null && event.clientId !== clientId)) {
      throw new GatewayError("not_found", `event ${eventId} does not exist, or is not kept any more`);
    }
    const history = await readHistory(event, historyCount);
    return { event, history };
  }

  async function readHistory({ conversation }: StoredEvent, count: number): Promise<History | null> {
    if (conversation === null || count === 0) return null;
    const [history] = await readHistories(database.pool, [{ ...conversation, count }]);
    return history ?? null;
  }

  function fromBody(owner: Parameters<Preview>[0], incoming: IncomingEvent, historyCount: number) {
    const now = clock.now();
    const event = sampleStoredEvent(incoming, owner, ids.next(), now);
    return { event, history: historyCount === 0 ? null : sampleHistory(incoming, historyCount, now) };
  }
}

function chooseEvent(
  { events, eventIndex }: Extract<PreviewRequest["source"], { kind: "body" }>,
  handles: readonly string[],
): IncomingEvent {
  const chosen =
    eventIndex ??
    Math.max(
      0,
      events.findIndex(({ type }) => isHandled(type, handles)),
    );
  const event = events[chosen];
  if (event !== undefined) return event;
  const message = `event_index: there is no event ${chosen}: the body holds ${events.length}, counted from 0`;
  throw new GatewayError("invalid_input", message, { field: "event_index" });
}

function isHandled(type: string, handles: readonly string[]): boolean {
  return handles.some((pattern) => coversType(pattern, type));
}
