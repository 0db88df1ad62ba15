/** The only map from our errors to Connect's. Whatever is no GatewayError is our fault: logged once, told to nobody. */

import type { DescMessage } from "@bufbuild/protobuf";
import { InvalidPathError, type Path, parsePath } from "@bufbuild/protobuf/reflect";
import { Violation, violationsToProto } from "@bufbuild/protovalidate";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { WatchDeliveriesEndSchema } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import { SendFailureSchema } from "../../gen/posthorn/v1/message_service_pb.ts";
import { GatewayError, type GatewayErrorKind } from "../domain/errors.ts";
import { isDatabaseOutage } from "../store/faults.ts";

const codeByKind = {
  invalid_input: Code.InvalidArgument,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  wrong_state: Code.FailedPrecondition,
  unauthenticated: Code.Unauthenticated,
  forbidden: Code.PermissionDenied,
  over_limit: Code.ResourceExhausted,
  unavailable: Code.Unavailable,
  unclear: Code.Unknown,
} satisfies Record<GatewayErrorKind, Code>;

/** Gives every error of a handler its code. Has to be the outermost interceptor. */
export function createErrorInterceptor(log: Logger): Interceptor {
  return (next) => async (request) => {
    const told = (error: unknown) =>
      toConnectError(error, request.method.input, log.child({ rpc: request.method.name }));
    try {
      const response = await next(request);
      // What a stream throws comes later, from the reading of its messages.
      return response.stream ? { ...response, message: telling(response.message, told) } : response;
    } catch (error) {
      throw told(error);
    }
  };
}

async function* telling<T>(messages: AsyncIterable<T>, told: (error: unknown) => ConnectError) {
  try {
    yield* messages;
  } catch (error) {
    throw told(error);
  }
}

/**
 * @param input  the request's type: a field at fault is told as a `buf.validate.Violations` detail on it
 */
export function toConnectError(error: unknown, input: DescMessage, log: Logger): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof GatewayError) return describe(error, input);
  if (isDatabaseOutage(error)) {
    log.warn({ err: error }, "a call found the database away");
    return new ConnectError("the database is not available, try again", Code.Unavailable);
  }
  log.error({ err: error }, "a call failed");
  return new ConnectError("something went wrong in the gateway; its log says what", Code.Internal);
}

function describe(error: GatewayError, input: DescMessage): ConnectError {
  const connectError = new ConnectError(error.message, codeByKind[error.kind], headersOf(error));
  if (error.send) {
    const { messageId, reason, code } = error.send;
    connectError.details.push({
      desc: SendFailureSchema,
      value: { messageId: messageId ?? undefined, reason, code: code ?? undefined },
    });
  }
  if (error.resumeToken !== undefined) {
    connectError.details.push({
      desc: WatchDeliveriesEndSchema,
      value: { resumeToken: error.resumeToken },
    });
  }
  const path = error.kind === "invalid_input" ? findPath(input, error.field) : null;
  if (path !== null) {
    const message = error.message.replace(`${error.field}: `, "");
    const [value, desc] = violationsToProto([new Violation(message, ruleId, path, [], false)]);
    connectError.details.push({ desc, value });
  }
  return connectError;
}

function headersOf({ kind, retryAfterSeconds }: GatewayError): Record<string, string> | undefined {
  if (kind === "unauthenticated") return { "WWW-Authenticate": "Bearer" };
  return retryAfterSeconds === undefined ? undefined : { "Retry-After": String(retryAfterSeconds) };
}

/** Null for a field that the request does not have: the message alone has to do then. */
function findPath(input: DescMessage, field: string | undefined): Path | null {
  if (field === undefined) return null;
  try {
    return parsePath(input, field);
  } catch (error) {
    if (error instanceof InvalidPathError) return null;
    throw error;
  }
}

/** For rules that depend on more than the request; those in the proto files have ids of their own. */
const ruleId = "posthorn";
