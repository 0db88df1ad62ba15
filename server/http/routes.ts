/** Who answers which path: the plain routes here, everything of Connect and gRPC by `rpc/`. */

import { answerError } from "./answers.ts";
import { createDropIn, type DropInParts, isDropInPath } from "./drop-in.ts";
import { createHealth, type HealthParts } from "./health.ts";
import { createIntake, type IntakeParts, type IntakeSettings } from "./intake.ts";
import { createMediaRoute, isMediaPath, type MediaParts, type MediaRouteSettings } from "./media.ts";
import { type HttpHandler, type HttpRequest, type HttpResponse, pathOf } from "./message.ts";
import { createRequestLog } from "./request-log.ts";
import { createSendRoute, type SendRouteParts, sendPaths } from "./send-routes.ts";

export interface RouteParts extends IntakeParts, HealthParts, DropInParts, SendRouteParts, MediaParts {
  /** Answers what begins with one of `rpcPrefixes`, unknown calls included. */
  rpcHandler: HttpHandler;
}

type RouteHandler = (request: HttpRequest, response: HttpResponse) => void | Promise<void>;
/** By method; `GET` answers `HEAD` too. */
type Route = Readonly<Record<string, RouteHandler>>;

/** Our services, and those that every gRPC tool expects (health, reflection). */
const rpcPrefixes = ["/posthorn.v1.", "/grpc."];

/** The handler of the one port. */
export function createRoutes(
  parts: RouteParts,
  settings: IntakeSettings,
  mediaSettings: MediaRouteSettings,
): HttpHandler {
  const intake = createIntake(parts, settings);
  const health = createHealth(parts);
  const dropInRoute: Route = { POST: createDropIn(parts, settings) };
  const mediaRoute: Route = { GET: createMediaRoute(parts, mediaSettings) };
  const noteRequest = createRequestLog(parts.log);
  const routes = new Map<string, Route>([
    ["/whatsapp/webhook", { GET: intake.handshake, POST: intake.receive }],
    [sendPaths.send, { POST: createSendRoute(parts, settings, "text") }],
    [sendPaths.sendTemplate, { POST: createSendRoute(parts, settings, "template") }],
    ["/healthz", { GET: health.answerAlive }],
    ["/readyz", { GET: health.answerReady }],
  ]);

  function findRoute(path: string): Route | undefined {
    if (isMediaPath(path)) return mediaRoute;
    return isDropInPath(path) ? dropInRoute : undefined;
  }

  function fail(error: unknown, response: HttpResponse): void {
    parts.log.error({ err: error }, "a request failed");
    if (response.headersSent) response.destroy();
    else answerError(response, { status: 500, code: "internal", message: "Something went wrong here." });
  }

  return (request, response) => {
    const path = pathOf(request);
    // Who knows a media link may read the file: it is not for the log.
    noteRequest(request, response, isMediaPath(path) ? "/media/" : path);
    const route = routes.get(path) ?? findRoute(path);
    if (route === undefined) {
      if (rpcPrefixes.some((prefix) => path.startsWith(prefix))) {
        response.setHeader("X-Content-Type-Options", "nosniff");
        return parts.rpcHandler(request, response);
      }
      return answerError(response, { status: 404, code: "not_found", message: "There is nothing here." });
    }
    const method = request.method === "HEAD" ? "GET" : (request.method ?? "");
    const handler = Object.hasOwn(route, method) ? route[method] : undefined;
    if (handler === undefined) return answerError(response, describeMethodError(route, request));
    try {
      handler(request, response)?.catch((error: unknown) => fail(error, response));
    } catch (error) {
      fail(error, response);
    }
  };
}

function describeMethodError(route: Route, request: HttpRequest) {
  const allow = Object.keys(route)
    .flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]))
    .join(", ");
  return {
    status: 405,
    code: "unimplemented",
    message: `${request.method} is not answered here; ${allow} is.`,
    allow,
  };
}
