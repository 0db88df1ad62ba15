import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { WatchDeliveriesResponseSchema } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import { followAttempts } from "../../server/cli/tail.ts";

test("a stream that falls silent, as when the machine at its other end is gone, is opened anew where it stood", async () => {
  const tokens: string[] = [];
  const refused = new ConnectError("no such webhook", Code.NotFound);
  async function* watch(resumeToken: string, signal: AbortSignal) {
    tokens.push(resumeToken);
    if (tokens.length === 3) throw refused;
    yield create(WatchDeliveriesResponseSchema, { resumeToken: `token ${tokens.length}` });
    await new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(new ConnectError("aborted", Code.Canceled)));
    });
  }
  await expect(followAttempts(watch, true, 50)).rejects.toBe(refused);
  expect(tokens).toEqual(["", "token 1", "token 2"]);
});

test("a gateway that takes the call and says nothing is asked again", async () => {
  let callCount = 0;
  const refused = new ConnectError("no such webhook", Code.NotFound);
  async function* watch(_: string, signal: AbortSignal) {
    callCount += 1;
    if (callCount === 2) throw refused;
    await new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(new ConnectError("aborted", Code.Canceled)));
    });
  }
  await expect(followAttempts(watch, true, 50)).rejects.toBe(refused);
});
