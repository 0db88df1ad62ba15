/** Calls with an `idempotency_key`: the first one runs, the others get its answer. */

import { hash } from "node:crypto";
import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import type { Owner } from "../store/access.ts";
import { claimCall, freeCall, type IdempotentCall, keepAnswer } from "../store/idempotency.ts";
import type { Database, Transaction } from "../store/orm.ts";

export interface IdempotencyParts {
  database: Database;
  clock: Clock;
  log: Logger;
}

/** Keeps an answer in the transaction that makes the change; the answer must hold no secret. */
export type KeepAnswer<Output extends DescMessage> = (
  transaction: Transaction,
  answer: MessageInitShape<Output>,
) => Promise<void>;

const waitMs = 50;
const waitsMax = 200;

/**
 * Runs a call once for its key, or gives the answer of the call that ran. Without a key it just runs.
 *
 * @param run  makes the call. Whoever keeps the answer in its transaction is safe from a crash right after it; otherwise
 *             what `run` returns is kept when it has returned
 * @throws GatewayError `invalid_input` if the key was used for another request, `unavailable` if the first call takes too
 *         long; and what `run` throws, which frees the key
 */
export async function runOnce<Input extends DescMessage, Output extends DescMessage>(
  parts: IdempotencyParts,
  owner: Owner,
  method: DescMethod & { input: Input; output: Output },
  request: MessageShape<Input> & { idempotencyKey?: string | undefined },
  run: (keep: KeepAnswer<Output>) => Promise<MessageInitShape<Output>>,
): Promise<MessageInitShape<Output>> {
  const { idempotencyKey: key } = request;
  if (key === undefined) return await run(async () => undefined);
  const call: IdempotentCall = {
    tenantId: owner.tenantId,
    rpc: `${method.parent.typeName}/${method.name}`,
    key,
    requestDigest: digestOf(method.input, request, owner.clientId),
  };
  for (let wait = 0; wait < waitsMax; wait++) {
    const claim = await claimCall(parts.database, call, parts.clock.now());
    if (claim.kind === "claimed") return await runClaimed(parts, method.output, call, claim.claimedAt, run);
    if (claim.kind === "answered") {
      return fromBinary(method.output, claim.response) as MessageInitShape<Output>;
    }
    if (claim.kind === "other_request") {
      const message = "idempotency_key: was used with another request in the last 24 hours";
      throw new GatewayError("invalid_input", message, { field: "idempotency_key" });
    }
    await parts.clock.sleep(waitMs);
  }
  throw new GatewayError("unavailable", "the first call with this idempotency_key still runs, try again");
}

async function runClaimed<Output extends DescMessage>(
  parts: IdempotencyParts,
  output: Output,
  call: IdempotentCall,
  claimedAt: Date,
  run: (keep: KeepAnswer<Output>) => Promise<MessageInitShape<Output>>,
): Promise<MessageInitShape<Output>> {
  let isKept = false;
  const keep: KeepAnswer<Output> = async (transaction, answer) => {
    await keepAnswer(transaction, call, claimedAt, toBinary(output, create(output, answer)));
    isKept = true;
  };
  let answer: MessageInitShape<Output>;
  try {
    answer = await run(keep);
  } catch (error) {
    await freeCall(parts.database, call, claimedAt).catch((cause: unknown) =>
      parts.log.warn({ err: cause }, "an idempotency key could not be freed; it frees itself in a minute"),
    );
    throw error;
  }
  try {
    if (!isKept) await keep(parts.database.em(), answer);
  } catch (error) {
    // The call has happened: to answer that it failed would be wrong.
    parts.log.warn({ err: error }, "the answer of a call with an idempotency key could not be kept");
  }
  return answer;
}

/** Of the request's meaning, not its bytes: maps have no order. */
function digestOf<Input extends DescMessage>(
  input: Input,
  request: MessageShape<Input>,
  clientId: number | null,
): Uint8Array {
  return hash("sha256", JSON.stringify([clientId, toJson(input, request)], sortKeys), "buffer");
}

function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)));
}
