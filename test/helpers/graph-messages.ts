/** The part of the stand-in for WhatsApp's Graph API that takes messages, and the statuses that follow them. */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { GraphAnswer, GraphRequest } from "./graph.ts";
import { aChange, anEnvelope, type Json } from "./whatsapp-bodies.ts";

export interface GraphSend {
  phoneNumberId: string;
  accessToken: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: tests look at whatever was sent
  body: any;
  receivedAt: Date;
  /** The id that it gets if it is taken. */
  wamid: string;
}

/** What is done with a message: taken, after `delayMs`, or answered otherwise. `cut` takes it and drops the connection. */
export type SendAnswer = "take" | "cut" | { delayMs: number } | GraphAnswer;

export interface GraphMessages {
  /** Messages in the order they came, refused ones included; marks of read messages too. */
  sends: GraphSend[];
  /** One answer for all, or one for each (`number` counts from 1). Default: each is taken. */
  answerSends(
    answer: SendAnswer | ((send: GraphSend, number: number) => SendAnswer | Promise<SendAnswer>),
  ): void;
  /** Takes the request if it is one that sends. */
  serve(graphRequest: GraphRequest, request: IncomingMessage, response: ServerResponse): boolean;
}

export function createGraphMessages(): GraphMessages {
  const sends: GraphSend[] = [];
  let answerOf: (send: GraphSend, number: number) => SendAnswer | Promise<SendAnswer> = () => "take";

  async function take(
    graphRequest: GraphRequest,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const send: GraphSend = {
      phoneNumberId: graphRequest.path.split("/")[1] ?? "",
      accessToken: graphRequest.accessToken,
      body: JSON.parse(Buffer.concat(chunks).toString("utf8")),
      receivedAt: new Date(),
      wamid: `wamid.out-${sends.length + 1}-${Math.random().toString(36).slice(2)}`,
    };
    sends.push(send);
    const answer = await answerOf(send, sends.length);
    if (answer === "hang") return;
    if (answer === "reset" || answer === "cut") {
      request.socket.destroy();
      return;
    }
    if (typeof answer === "object" && "delayMs" in answer) {
      await new Promise((resolve) => setTimeout(resolve, answer.delayMs));
    }
    const isTaken = answer === "take" || "delayMs" in answer;
    const { status, body } = isTaken ? accepted(send) : answer;
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(typeof body === "string" ? body : JSON.stringify(body ?? {}));
  }

  return {
    sends,
    answerSends(answer) {
      answerOf = typeof answer === "function" ? answer : () => answer;
    },
    serve(graphRequest, request, response) {
      if (graphRequest.method !== "POST" || !graphRequest.path.endsWith("/messages")) return false;
      void take(graphRequest, request, response);
      return true;
    },
  };
}

function accepted({ body, wamid }: GraphSend): { status: number; body: unknown } {
  if (body.status === "read") return { status: 200, body: { success: true } };
  const input = body.to ?? body.recipient;
  const contact = body.to === undefined ? { user_id: input } : { wa_id: String(input).replace(/\D/g, "") };
  const messages = [{ id: wamid, message_status: "accepted" }];
  return {
    status: 200,
    body: { messaging_product: "whatsapp", contacts: [{ input, ...contact }], messages },
  };
}

/** The body that tells of a status of a message, as Meta posts it to the gateway. */
export function aStatusBody(send: GraphSend, status: string, overrides: Json = {}): Json {
  const item = {
    id: send.wamid,
    status,
    timestamp: String(Math.floor(Date.now() / 1000)),
    recipient_id: String(send.body.to ?? "").replace(/\D/g, ""),
    biz_opaque_callback_data: send.body.biz_opaque_callback_data,
    ...overrides,
  };
  return anEnvelope([aChange({ statuses: [item] })]);
}
