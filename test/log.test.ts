import { describe, expect, test } from "vitest";
import { createLogger } from "../server/log.ts";

function logged(write: (log: ReturnType<typeof createLogger>) => void): Record<string, unknown>[] {
  const lines: Record<string, unknown>[] = [];
  write(createLogger("debug", { write: (line) => void lines.push(JSON.parse(line)) }));
  return lines;
}

describe("the log", () => {
  test("writes JSON lines with an ISO time and the level by name", () => {
    const [line] = logged((log) => log.info({ webhookId: 7 }, "hello"));
    expect(line).toEqual({
      level: "info",
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      webhookId: 7,
      msg: "hello",
    });
  });

  test.each([
    "authorization",
    "Authorization",
    "secret",
    "secrets",
    "signature_secret",
    "appSecret",
    "app_secrets",
    "verifyToken",
    "accessToken",
    "operatorKeys",
    "masterKeys",
    "X-Hub-Signature-256",
    "webhook-signature",
    "body",
    "rawBody",
    "payload",
    "headers",
    "password",
  ])("hides %s at every depth", (key) => {
    const lines = logged((log) => {
      log.info({ [key]: "hidden-1" });
      log.info({ a: { b: [{ [key]: { deep: "hidden-2" } }] } });
      log.child({ [key]: "hidden-3" }).info("from a child");
    });
    expect(lines).toHaveLength(3);
    expect(JSON.stringify(lines)).not.toMatch(/hidden-/);
  });

  test("writes the length of bytes, not the bytes", () => {
    const [line] = logged((log) => log.info({ part: Buffer.from("hidden") }));
    expect(line).toMatchObject({ part: "[6 bytes]" });
  });

  test("keeps of an error its message, code, stack and causes, and nothing that a driver added", () => {
    const cause = Object.assign(new Error("inner"), { code: "23505", detail: "hidden row" });
    const error = Object.assign(new Error("outer", { cause }), { query: "hidden query" });
    const [line] = logged((log) => log.error({ err: error }, "failed"));
    expect(line!.err).toMatchObject({
      type: "Error",
      message: "outer",
      stack: expect.stringContaining("log.test.ts"),
      cause: { message: "inner", code: "23505" },
    });
    expect(JSON.stringify(line)).not.toContain("hidden");
  });

  test("describes errors under other names too, and ends at circles", () => {
    const circle: Record<string, unknown> = { reason: new Error("why") };
    circle.self = circle;
    const [line] = logged((log) => log.warn({ circle }));
    expect(line).toMatchObject({ circle: { reason: { message: "why" } } });
  });
});
