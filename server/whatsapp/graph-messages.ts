/**
 * Sends through WhatsApp's Graph API. There is no idempotency key over there, so all turns on one question: was the
 * request written when it failed? If not, the message was not sent; if it was and no answer came, nobody knows.
 */

import type { Dispatcher } from "undici";
import type { OutgoingContent, Recipient, SendOutcome } from "../domain/outgoing.ts";
import { createGraphDispatcher, type GraphSettings } from "./graph.ts";
import { cleanText, idOf, listOf, parseLossless, recordOf, textOf } from "./json.ts";
import { phoneOf } from "./phone.ts";
import { judgeSendError } from "./send-errors.ts";

export interface GraphMessages {
  /**
   * Sends one message, once: whatever happens, the request is not repeated. Never rejects.
   *
   * @param callbackData  comes back in every status of the message
   */
  send(sender: GraphSender, message: GraphMessage): Promise<SendOutcome>;
  /**
   * Marks a message of a user, and all before it, as read. Never rejects; `accepted` has the message's id.
   *
   * @param isTyping  shows that an answer is being written, for up to 25 s
   */
  markRead(sender: GraphSender, wamid: string, isTyping: boolean): Promise<SendOutcome>;
  /** Drops every connection; what is under way becomes unclear. */
  close(): Promise<void>;
}

export interface GraphSender {
  phoneNumberId: string;
  accessToken: string;
}

export interface GraphMessage {
  to: Recipient;
  content: OutgoingContent;
  callbackData: string;
}

const messageLengthMax = 500;

export function createGraphMessages(settings: GraphSettings): GraphMessages {
  const dispatcher = createGraphDispatcher(settings);
  const origin = new URL(settings.url);

  async function post(sender: GraphSender, body: Record<string, unknown>): Promise<Posted> {
    const path = `${origin.pathname.replace(/\/$/, "")}/${settings.version}/${encodeURIComponent(sender.phoneNumberId)}/messages`;
    const exchange = new PostExchange(settings.timeoutMs, settings.responseBytesMax);
    dispatcher.dispatch(
      {
        origin: origin.origin,
        path,
        method: "POST",
        headers: {
          Authorization: `Bearer ${sender.accessToken}`,
          "Content-Type": "application/json",
          Accept: "application/json",
        },
        body: JSON.stringify(body),
      },
      exchange,
    );
    return await exchange.result;
  }

  return {
    async send(sender, { to, content, callbackData }) {
      const posted = await post(sender, {
        messaging_product: "whatsapp",
        recipient_type: "individual",
        ...(to.bsuid === null ? { to: `+${to.phone}` } : { recipient: to.bsuid }),
        type: content.type,
        ...(JSON.parse(content.json) as object),
        biz_opaque_callback_data: callbackData,
      });
      return judge(posted, sender, (body) => {
        const wamid = idOf(recordOf(listOf(body?.messages)[0])?.id);
        if (wamid === null) return null;
        return { kind: "accepted", wamid, phone: phoneOf(recordOf(listOf(body?.contacts)[0])?.wa_id) };
      });
    },
    async markRead(sender, wamid, isTyping) {
      const posted = await post(sender, {
        messaging_product: "whatsapp",
        status: "read",
        message_id: wamid,
        ...(isTyping && { typing_indicator: { type: "text" } }),
      });
      return judge(posted, sender, (body) =>
        body?.success === true ? { kind: "accepted", wamid, phone: null } : null,
      );
    },
    close: () => dispatcher.destroy(),
  };
}

type Posted =
  | { kind: "answered"; status: number; text: string }
  | { kind: "broken"; isWritten: boolean; error: Error };

function judge(
  posted: Posted,
  { accessToken }: GraphSender,
  accept: (body: Record<string, unknown> | null) => SendOutcome | null,
): SendOutcome {
  // Graph repeats what it was sent, the token too, and a server that speaks no HTTP is quoted by the parser.
  const show = (text: string) =>
    cleanText(text.replaceAll(accessToken, "[token]")).slice(0, messageLengthMax);
  if (posted.kind === "broken") {
    const message = show(posted.error.message || posted.error.name);
    return posted.isWritten ? { kind: "unclear", message } : { kind: "not_sent", message };
  }
  const { status } = posted;
  const body = recordOf(parseOrNull(posted.text));
  if (status >= 200 && status < 300) {
    return accept(body) ?? { kind: "unclear", message: `status ${status} without a message id` };
  }
  const error = recordOf(body?.error);
  const code = codeOf(error?.code);
  const words = textOf(recordOf(error?.error_data)?.details) ?? textOf(error?.message) ?? `status ${status}`;
  const message = show(words);
  if (judgeSendError(status, code) === null) return { kind: "unclear", message };
  const traceId = textOf(error?.fbtrace_id);
  return { kind: "refused", status, code, message, ...(traceId !== null && { traceId: show(traceId) }) };
}

function codeOf(value: unknown): number | null {
  const text = textOf(value);
  return text !== null && /^\d{1,9}$/.test(text) ? Number(text) : null;
}

function parseOrNull(text: string): unknown {
  try {
    return parseLossless(text);
  } catch {
    return null;
  }
}

/** One request and its answer; notes whether the request's head was written. */
class PostExchange implements Dispatcher.DispatchHandler {
  readonly result: Promise<Posted>;
  readonly #bytesMax: number;
  readonly #timer: NodeJS.Timeout;
  #settle!: (posted: Posted) => void;
  #controller: Dispatcher.DispatchController | null = null;
  #status = 0;
  #chunks: Uint8Array[] = [];
  #byteCount = 0;
  #isEnded = false;

  constructor(timeoutMs: number, bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.result = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#timer = setTimeout(() => this.#fail(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // undici keeps a request that waits for its connection; nothing may be written once it was given up.
    if (this.#isEnded) controller.abort(new Error("the call has ended"));
    else this.#controller = controller;
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number): void {
    if (status >= 200) this.#status = status;
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    this.#byteCount += chunk.byteLength;
    if (this.#byteCount > this.#bytesMax)
      this.#fail(new Error(`the answer is longer than ${this.#bytesMax} bytes`));
    else this.#chunks.push(chunk);
  }

  onResponseEnd(): void {
    this.#end({
      kind: "answered",
      status: this.#status,
      text: Buffer.concat(this.#chunks).toString("utf8"),
    });
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#fail(error);
  }

  #fail(error: Error): void {
    const isWritten = this.#controller !== null;
    this.#end({ kind: "broken", isWritten, error });
    this.#controller?.abort(error);
  }

  #end(posted: Posted): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearTimeout(this.#timer);
    this.#settle(posted);
  }
}
