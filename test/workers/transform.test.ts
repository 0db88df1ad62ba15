import { describe, expect, test } from "vitest";
import {
  defineTransformer,
  respond,
  type Transformer,
  type TransformerInput,
} from "../../plugins/transformer.ts";
import { makePayload, payloadBytesMax } from "../../server/workers/transform.ts";
import { aJobEvent, aTask } from "./builders.ts";

function transforming(transform: (input: TransformerInput) => unknown): Map<string, Transformer> {
  const echo = defineTransformer({ name: "echo", version: "4", description: "", handles: ["*"], transform });
  return new Map([["echo", echo]]);
}

const make = (transform: (input: TransformerInput) => unknown, task = aTask()) =>
  makePayload(task, transforming(transform), 50);

const textOf = (result: Awaited<ReturnType<typeof makePayload>>) =>
  result.kind === "made" ? Buffer.from(result.payload.body).toString() : result;

describe("what a transformer returns", () => {
  test.each<[string, unknown, string]>([
    ["an object", { a: [1, "ü"] }, '{"a":[1,"ü"]}'],
    ["null", null, "null"],
    ["a text", "hello", '"hello"'],
    ["false", false, "false"],
    ["a promise", Promise.resolve({ late: true }), '{"late":true}'],
    ["a lone surrogate", respond({ body: "a\ud800b" }), "a\ufffdb"],
  ])("%s becomes the body", async (_case, value, expected) => {
    const result = await make(() => value);
    expect(textOf(result)).toBe(expected);
    expect(result).toMatchObject({
      payload: { contentType: "application/json", headers: {}, transformerVersion: "4" },
    });
  });

  test("respond says body, content type and headers exactly", async () => {
    const body = new Uint8Array([1, 2, 255]);
    const result = await make(() =>
      respond({ body, contentType: "application/cbor", headers: { "X-Kind": "a" } }),
    );
    expect(result).toEqual({
      kind: "made",
      payload: { body, contentType: "application/cbor", headers: { "X-Kind": "a" }, transformerVersion: "4" },
    });
  });

  test("bytes that are a view of more get memory of their own", async () => {
    const whole = new Uint8Array(100_000).fill(7);
    const result = await make(() => respond({ body: whole.subarray(10, 20) }));
    if (result.kind !== "made") throw new Error("not made");
    expect(result.payload.body).toEqual(new Uint8Array(10).fill(7));
    expect(result.payload.body.buffer.byteLength).toBe(10);
  });

  test("undefined sends nothing, promised or not", async () => {
    expect(await make(() => undefined)).toEqual({ kind: "skipped" });
    expect(await make(async () => undefined)).toEqual({ kind: "skipped" });
  });

  test("256 KiB are sent, a byte more is an error", async () => {
    expect((await make(() => respond({ body: "x".repeat(payloadBytesMax) }))).kind).toBe("made");
    expect(await make(() => respond({ body: "x".repeat(payloadBytesMax + 1) }))).toEqual({
      kind: "transformer_error",
      message: "the payload has 262145 bytes, at most 262144 are sent",
    });
  });
});

describe("a transformer_error", () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;

  test.each<[string, () => unknown, RegExp]>([
    [
      "what it throws",
      () => {
        throw new RangeError("no\nsuch thing");
      },
      /^RangeError: no such thing$/,
    ],
    [
      "a thrown text",
      () => {
        throw "plain";
      },
      /^threw string: plain$/,
    ],
    [
      "a thrown thing that cannot be shown",
      () => {
        throw {
          toString() {
            throw new Error("again");
          },
        };
      },
      /^threw something that cannot be shown$/,
    ],
    [
      "a long message",
      () => {
        throw new Error("x".repeat(10_000));
      },
      /^Error: x{293}$/,
    ],
    [
      "a message that holds what cannot be stored",
      () => {
        throw new Error("a\0b\u001b[31m");
      },
      /^Error: a b \[31m$/,
    ],
    ["a rejected promise", () => Promise.reject(new Error("later")), /^Error: later$/],
    ["a promise over budget", () => new Promise(() => {}), /took longer than 50 ms/],
    ["a function", () => () => 1, /returned a function/],
    ["a symbol", () => Symbol("s"), /returned a symbol/],
    ["a bigint", () => ({ big: 1n }), /BigInt/],
    ["a cycle", () => cycle, /circular/],
    ["a body of no kind", () => respond({ body: 5 as unknown as string }), /neither text nor bytes/],
    [
      "a content type with a line break",
      () => respond({ body: "", contentType: "a/b\r\nx: y" }),
      /content type/,
    ],
    [
      "a header value with a line break",
      () => respond({ body: "", headers: { "x-a": "1\r\nx-b: 2" } }),
      /"x-a" has a/,
    ],
    [
      "a header value that is no text",
      () => respond({ body: "", headers: { a: 1 as unknown as string } }),
      /no text/,
    ],
    [
      "a header name that is none",
      () => respond({ body: "", headers: { "a b": "1" } }),
      /no valid header name/,
    ],
    [
      "21 headers",
      () => respond({ body: "", headers: Object.fromEntries(numbered(21)) }),
      /asks for 21 headers/,
    ],
    ["an item that is no JSON", ({ event }: TransformerInput = input("{")) => event.item, /SyntaxError/],
  ])("%s", async (_case, transform, message) => {
    const result = await make(transform, aTask({ event: aJobEvent({ itemJson: "{" }) }));
    expect(result).toMatchObject({ kind: "transformer_error", message: expect.stringMatching(message) });
  });

  test.each([
    "Content-Type",
    "content-encoding",
    "Host",
    "webhook-id",
    "Webhook-Signature",
    "X-Intelli-Signature",
    "x-my-signature",
    "Connection",
    "keep-alive",
    "Transfer-Encoding",
    "TE",
    "Trailer",
    "Upgrade",
    "Proxy-Authorization",
  ])("the reserved header %s", async (name) => {
    expect(await make(() => respond({ body: "{}", headers: { [name]: "x" } }))).toMatchObject({
      kind: "transformer_error",
      message: expect.stringContaining(name),
    });
  });

  test("a transformer that is not loaded", async () => {
    expect(await makePayload(aTask({ transformer: "gone" }), new Map(), 50)).toEqual({
      kind: "transformer_error",
      message: "transformer gone is not loaded",
    });
  });

  function input(itemJson: string): TransformerInput {
    return { event: { itemJson } } as TransformerInput;
  }

  function numbered(count: number): [string, string][] {
    return Array.from({ length: count }, (_, index) => [`x-${index}`, "v"]);
  }
});

describe("what a transformer gets", () => {
  test("the event with its item parsed and instants as Date", async () => {
    let seen: TransformerInput | undefined;
    await make(
      (input) => {
        seen = input;
        return null;
      },
      aTask({ options: { history_size: 3 }, mediaUrl: "https://gw/media/t" }),
    );
    expect(seen!.event.item).toEqual(JSON.parse(aJobEvent().itemJson));
    expect(seen!.event.item).toBe(seen!.event.item);
    expect(seen!.event).toMatchObject({
      itemJson: aJobEvent().itemJson,
      occurredAt: new Date("2026-03-05T12:00:00Z"),
      receivedAt: new Date("2026-03-05T12:00:01Z"),
      clientRef: "partner-123",
      user: { waId: "15550001111" },
    });
    expect(seen).toMatchObject({
      conversation: null,
      options: { history_size: 3 },
      mediaUrl: "https://gw/media/t",
    });
  });

  test("an item that nobody looks at is never parsed", async () => {
    const result = await make(
      ({ event }) => respond({ body: event.itemJson }),
      aTask({
        event: aJobEvent({ itemJson: "{" }),
      }),
    );
    expect(textOf(result)).toBe("{");
  });

  test("the conversation with its messages' instants as Date", async () => {
    const message = {
      sender: "user" as const,
      content: "Hi",
      contentType: "text" as const,
      sentAtMs: 1_772_712_000_000,
    };
    const expected = {
      sender: "user",
      content: "Hi",
      contentType: "text",
      sentAt: new Date(1_772_712_000_000),
    };
    let seen: TransformerInput["conversation"] | undefined;
    await make(
      (input) => {
        seen = input.conversation;
        return null;
      },
      aTask({
        conversation: {
          userId: "u",
          phone: null,
          bsuid: "US.1",
          name: "Ada",
          note: "",
          noteAutomation: "",
          labels: ["a"],
          messages: [message],
          lastUserMessage: message,
          lastBotMessage: null,
        },
      }),
    );
    expect(seen).toMatchObject({
      bsuid: "US.1",
      labels: ["a"],
      messages: [expected],
      lastUserMessage: expected,
    });
    expect(seen!.lastBotMessage).toBeNull();
  });
});
