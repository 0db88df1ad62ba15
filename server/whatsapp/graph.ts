/**
 * WhatsApp's Graph API: asks it about things of a client, with the client's access token. The token goes to the
 * configured host alone, and into no error: what Graph answers in words may repeat it, so only its numbers are told.
 */

import { createSecureContext, getCACertificates } from "node:tls";
import { Agent, type Dispatcher, ProxyAgent, request } from "undici";
import { GatewayError } from "../domain/errors.ts";
import { parseLossless, recordOf, textOf } from "./json.ts";
import { phoneOf } from "./phone.ts";

export interface GraphSettings {
  /** Without a slash at its end; https in production (`config.ts` sees to it). */
  url: string;
  /** Such as `v23.0`. */
  version: string;
  /** Bound on connect, send and answer together. */
  timeoutMs: number;
  /** Longest answer. */
  responseBytesMax: number;
  /** Authorities besides the usual ones, PEM; null = none. */
  caPem: string | null;
  /** Proxy that all requests go through; null = none. */
  egressProxy: string | null;
}

export interface GraphNumber {
  phoneNumberId: string;
  /** Digits; null if Graph did not say. */
  displayPhoneNumber: string | null;
}

export interface Graph {
  /**
   * What Graph shows of a number to an access token; null if it shows none, or something else, under this id.
   *
   * @throws GatewayError `invalid_input` if Graph refuses the token, `unavailable` if Graph is away, slow, limits us or
   *         makes no sense
   */
  readPhoneNumber(phoneNumberId: string, accessToken: string): Promise<GraphNumber | null>;
  /** Drops every connection; calls under way fail. */
  close(): Promise<void>;
}

export function createGraph(settings: GraphSettings): Graph {
  const dispatcher = createGraphDispatcher(settings);

  return {
    async readPhoneNumber(phoneNumberId, accessToken) {
      const path = `${encodeURIComponent(phoneNumberId)}?fields=id,display_phone_number`;
      const { status, body } = await askGraph(settings, dispatcher, path, accessToken);
      if (status >= 200 && status < 300) {
        const record = recordOf(body);
        if (record === null) throw refuseAnswer(status, null);
        if (textOf(record.id) !== phoneNumberId) return null;
        return { phoneNumberId, displayPhoneNumber: phoneOf(record.display_phone_number) };
      }
      const code = codeOf(body);
      if (refusesToken(status, code)) {
        throw new GatewayError(
          "invalid_input",
          `access_token: WhatsApp's Graph API refuses it (${describeAnswer(status, code)})`,
          { field: "access_token" },
        );
      }
      if (limitCodes.has(code ?? "") || (status !== 400 && status !== 404)) throw refuseAnswer(status, code);
      return null;
    },
    close: () => dispatcher.destroy(),
  };
}

/**
 * GET of a path behind the version.
 *
 * @throws GatewayError `unavailable` if Graph is away or slow
 */
export async function askGraph(
  settings: GraphSettings,
  dispatcher: Dispatcher,
  path: string,
  accessToken: string,
): Promise<{ status: number; body: unknown }> {
  const signal = AbortSignal.timeout(settings.timeoutMs);
  try {
    // Redirects are not followed: the token is for this host alone.
    const response = await request(`${settings.url}/${settings.version}/${path}`, {
      dispatcher,
      signal,
      headers: { Authorization: `Bearer ${accessToken}`, Accept: "application/json" },
    });
    const text = await readText(response.body, settings.responseBytesMax);
    return { status: response.statusCode, body: parseOrNull(text) };
  } catch (error) {
    const why = signal.aborted ? `gave no answer within ${settings.timeoutMs} ms` : "could not be reached";
    throw new GatewayError("unavailable", `WhatsApp's Graph API ${why}, try again`, {
      cause: withoutToken(error, accessToken),
    });
  }
}

/** True if Graph says that the token is wrong or may not do this. */
export function refusesToken(status: number, code: string | null): boolean {
  return status === 401 || status === 403 || tokenCodes.has(code ?? "");
}

/** Graph's words for a token that is wrong or may not do this; it answers them with 400 as well. */
const tokenCodes = new Set(["3", "10", "102", "190", "200"]);
/** Too many calls, or a fault of its own: another time the answer may be another. */
const limitCodes = new Set(["1", "2", "4", "17", "32", "613", "80007", "130429"]);

function refuseAnswer(status: number, code: string | null): GatewayError {
  return new GatewayError(
    "unavailable",
    `WhatsApp's Graph API cannot answer now (${describeAnswer(status, code)}), try again`,
  );
}

/** For the caller and the log: what Graph answered, without its words. */
export function describeAnswer(status: number, code: string | null): string {
  return code === null ? `status ${status}` : `status ${status}, code ${code}`;
}

/** The number of the error that Graph answered with; null if it gave none. */
export function codeOf(body: unknown): string | null {
  const code = textOf(recordOf(recordOf(body)?.error)?.code);
  return code !== null && /^\d{1,10}$/.test(code) ? code : null;
}

function parseOrNull(text: string): unknown {
  try {
    return parseLossless(text);
  } catch {
    return null;
  }
}

/** @throws Error for a body that is longer than allowed; what comes after is not read */
async function readText(body: Dispatcher.ResponseData["body"], bytesMax: number): Promise<string> {
  const chunks: Buffer[] = [];
  let byteCount = 0;
  for await (const chunk of body) {
    byteCount += (chunk as Buffer).length;
    if (byteCount > bytesMax) throw new Error(`the answer is longer than ${bytesMax} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** For the log. A server that speaks no HTTP may send back what it was sent, and the parser quotes it. */
export function withoutToken(error: unknown, accessToken: string): Error {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new Error(text.replaceAll(accessToken, "[token]"));
}

/** Connections to Graph, by way of the proxy if there is one. */
export function createGraphDispatcher({ caPem, egressProxy, timeoutMs }: GraphSettings): Dispatcher {
  const tls = {
    secureContext: createSecureContext(
      caPem === null ? {} : { ca: [...getCACertificates("default"), caPem] },
    ),
    // Said aloud, so that NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment does not turn it off.
    rejectUnauthorized: true,
    timeout: timeoutMs,
  };
  const shared = { allowH2: false, maxHeaderSize: 64 * 1024 } as const;
  if (egressProxy === null) return new Agent({ ...shared, connect: tls });
  return new ProxyAgent({
    ...shared,
    uri: egressProxy,
    proxyTunnel: true,
    requestTls: tls,
    proxyTls: tls,
  });
}
