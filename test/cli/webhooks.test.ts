import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { openPosthorn, type Posthorn } from "./posthorn.ts";

let gateway: TestGateway;
let receiver: Receiver;
let posthorn: Posthorn;
beforeAll(async () => {
  gateway = await startTestGateway();
  receiver = await startReceiver({
    answer: ({ path }) => (path === "/broken" ? { status: 500 } : { status: 200 }),
  });
  posthorn = await openPosthorn(() => gateway.url());
});
afterAll(async () => {
  await posthorn?.close();
  await receiver?.close();
  await gateway?.close();
});

describe("webhooks create", () => {
  test("registers an enabled, signed webhook for incoming events, and prints the API's answer", async () => {
    const { code, stderr, json } = await posthorn.run([
      "webhooks",
      "create",
      "https://example.com/plain",
      "--json",
    ]);
    expect(code).toBe(0);
    expect(stderr).toBe("");
    expect(json).toMatchObject({
      id: expect.any(Number),
      status: true,
      incoming: true,
      outgoing: false,
      webhooks: "https://example.com/plain",
      created_at: expect.any(Number),
      signature_secret: expect.stringMatching(/^whsec_/),
      waiting_duration: 0,
      schedule_activity: false,
      active_signature: true,
      transformer: "insights",
    });
  });

  test("passes every field on", async () => {
    const args = [
      "--no-enabled",
      "--no-incoming",
      "--outgoing",
      "--schedule-activity",
      "--waiting-duration",
      "60",
    ];
    args.push(
      "--no-signed",
      "--transformer",
      "raw",
      "--event-type",
      "message.sent,message.status",
      "--paused",
    );
    args.push(
      "--max-in-flight",
      "7",
      "--description",
      "of tests",
      "--header",
      "X-A: b: c",
      "--header",
      "X-D: e",
    );
    const { code, json } = await posthorn.run([
      "webhooks",
      "create",
      "https://example.com/all",
      ...args,
      "--json",
    ]);
    expect(code).toBe(0);
    expect(json).toMatchObject({
      status: false,
      incoming: false,
      outgoing: true,
      schedule_activity: true,
      waiting_duration: 60,
      active_signature: false,
      transformer: "raw",
      event_types: ["message.sent", "message.status"],
      max_in_flight: 7,
      paused: true,
      description: "of tests",
    });
    expect(json.signature_secret).toBeUndefined();
  });

  test("takes options of the transformer as JSON, and a client by its name", async () => {
    await posthorn.run(["clients", "create", "partner"]);
    const args = ["--transformer-options", '{"history_size":3}', "--client", "partner", "--json"];
    const { json } = await posthorn.run(["webhooks", "create", "https://example.com/options", ...args]);
    expect(json).toMatchObject({ transformer_options: { history_size: 3 }, client_ref: "partner" });
  });

  test("takes a secret of one's own from a file or from standard input, and no other way", async () => {
    const secret = "a-secret-of-our-own-24-or-more";
    await writeFile(join(posthorn.directory, "secret"), `${secret}\n`);
    const fromFile = ["webhooks", "create", "https://example.com/file", "--signature-secret-file", "secret"];
    expect((await posthorn.run([...fromFile, "--json"])).json.signature_secret).toBe(secret);
    const fromInput = ["webhooks", "create", "https://example.com/input", "--signature-secret-file", "-"];
    expect((await posthorn.run([...fromInput, "--json"], { input: secret })).json.signature_secret).toBe(
      secret,
    );
    const missing = await posthorn.run([...fromInput.slice(0, 4), "no-such-file"]);
    expect(missing.code).toBe(2);
    expect(missing.stderr).toContain("no-such-file");
  });

  test("for people, shows the secret with a word that it is the only time", async () => {
    const { stdout, stderr } = await posthorn.run(["webhooks", "create", "https://example.com/people"]);
    expect(stdout).toMatch(/^signature_secret +whsec_\S+$/m);
    expect(stdout).toMatch(/^created_at +20\d\d-\d\d-\d\dT/m);
    expect(stderr).toBe("The signing secret is shown this once: keep it now.\n");
  });
});

describe("a webhook", () => {
  let id: string;
  let secret: string;
  beforeAll(async () => {
    const args = ["--header", "X-Hidden: hidden-value", "--transformer", "raw", "--json"];
    const { json } = await posthorn.run(["webhooks", "create", `${receiver.url}?one`, ...args]);
    id = String(json.id);
    secret = json.signature_secret;
  });

  test("is listed and shown, never with its secret or the values of its headers", async () => {
    const all = await Promise.all([
      posthorn.run(["webhooks", "list"]),
      posthorn.run(["webhooks", "list", "--json"]),
      posthorn.run(["webhooks", "get", id]),
      posthorn.run(["webhooks", "get", id, "--json"]),
      posthorn.run(["audit", "list"]),
    ]);
    const [table, list, shown, one] = all;
    expect(table!.stdout.split("\n")[0]).toMatch(/^ID +STATE +TRANSFORMER +TRIGGERS +SIGNED +CLIENT +URL$/);
    expect(table!.stdout).toMatch(new RegExp(`^${id} +on +raw +incoming +yes +- +http://`, "m"));
    expect(list!.json.find((each: { id: number }) => String(each.id) === id)).toEqual(one!.json);
    expect(one!.json).toMatchObject({ id: Number(id), transformer: "raw", webhooks: `${receiver.url}?one` });
    expect(shown!.stdout).toMatch(/^transformer +raw$/m);
    for (const { code, stdout, stderr } of all) {
      expect(code).toBe(0);
      expect(stdout + stderr).not.toContain(secret);
      expect(stdout + stderr).not.toContain("hidden-value");
    }
  });

  test("changes in what is given, and in nothing else", async () => {
    const before = (await posthorn.run(["webhooks", "get", id, "--json"])).json;
    const args = ["--outgoing", "--description", "now described", "--event-type", "message.*", "--json"];
    const { code, json } = await posthorn.run(["webhooks", "update", id, ...args]);
    expect(code).toBe(0);
    const changes = { outgoing: true, description: "now described", event_types: ["message.*"] };
    expect(json).toEqual({ ...before, ...changes, updated_at: json.updated_at });
    const cleared = await posthorn.run([
      "webhooks",
      "update",
      id,
      "--clear",
      "description,event_types",
      "--json",
    ]);
    expect(cleared.json).toEqual({ ...before, outgoing: true, updated_at: cleared.json.updated_at });
  });

  test("gets a new secret, shown once, beside the one before", async () => {
    const { code, json } = await posthorn.run(["webhooks", "rotate", id, "--overlap", "60", "--json"]);
    expect(code).toBe(0);
    expect(json.signature_secret).toMatch(/^whsec_/);
    expect(json.signature_secret).not.toBe(secret);
    expect(Date.parse(json.former_secret_expires_at)).toBeGreaterThan(Date.now());
    expect(json.webhook.id).toBe(Number(id));
  });

  test("is tried out: 0 if its endpoint takes the sample, 1 if not", async () => {
    const good = await posthorn.run(["webhooks", "test", id, "--event-type", "message.received", "--json"]);
    expect(good.code).toBe(0);
    expect(good.json).toMatchObject({ event_type: "message.received", attempt: { outcome: "succeeded" } });
    const url = receiver.url.replace("/hook", "/broken");
    await posthorn.run(["webhooks", "update", id, "--url", url]);
    const bad = await posthorn.run(["webhooks", "test", id]);
    expect(bad.code).toBe(1);
    expect(bad.stdout).toContain('"response_status":500');
  });

  test("is gone once deleted", async () => {
    const { code, json } = await posthorn.run(["webhooks", "delete", id, "--json"]);
    expect(code).toBe(0);
    expect(json).toEqual({ id: Number(id), deleted: true });
    expect((await posthorn.run(["webhooks", "get", id])).code).toBe(3);
  });
});
