/** Which gateway a command speaks to, and as whom. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { CommandFault, exitCodes } from "./fault.ts";

export interface Connection {
  /** Calls of one service; each is bounded in time. */
  client<Service extends DescService>(service: Service): Client<Service>;
}

type Environment = Readonly<Record<string, string | undefined>>;

const urlDefault = "http://127.0.0.1:8080";
const timeoutMs = 30_000;

/** Address of the gateway, as it stands in errors. */
export function gatewayUrl(env: Environment): string {
  return env.POSTHORN_URL?.trim().replace(/\/+$/, "") || urlDefault;
}

/**
 * @param tenant  for the operator key: the tenant to speak of; undefined = `default`
 * @throws CommandFault if the address is none, or there is no key
 */
export function connect(env: Environment, tenant: string | undefined): Connection {
  const baseUrl = gatewayUrl(env);
  const url = URL.parse(baseUrl);
  if (url === null || !["http:", "https:"].includes(url.protocol)) {
    throw new CommandFault(`POSTHORN_URL must be a URL such as ${urlDefault}`);
  }
  const authorization = `Bearer ${findKey(env, url)}`;
  const addHeaders: Interceptor = (next) => (request) => {
    request.header.set("Authorization", authorization);
    if (tenant !== undefined) request.header.set("Posthorn-Tenant", tenant);
    return next(request);
  };
  const transport = createConnectTransport({
    baseUrl,
    httpVersion: "1.1",
    interceptors: [addHeaders],
    defaultTimeoutMs: timeoutMs,
  });
  return { client: (service) => createClient(service, transport) };
}

/** The operator key of this machine's gateway goes to this machine only, whatever POSTHORN_URL says. */
function findKey(env: Environment, url: URL): string {
  const given = env.POSTHORN_KEY?.trim();
  const key = given || (isLoopback(url.hostname) ? readOperatorKey(env) : null);
  if (!key) {
    throw new CommandFault(
      "no key: set POSTHORN_KEY, or run this in the directory of a local gateway as the user that runs it",
      exitCodes.denied,
    );
  }
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new CommandFault("POSTHORN_KEY holds characters that no HTTP header can carry", exitCodes.denied);
  }
  return key;
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

/** As the gateway finds it; null if it is not readable here. */
function readOperatorKey(env: Environment): string | null {
  const configured = env.POSTHORN_OPERATOR_KEY?.split(",")[0]?.trim();
  if (configured) return configured;
  try {
    return readFileSync(join(env.POSTHORN_DATA_DIR?.trim() || ".posthorn", "operator.key"), "utf8").trim();
  } catch {
    return null;
  }
}
