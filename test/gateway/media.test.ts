import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { get } from "node:http";
import pino from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../server/clock.ts";
import { createHousekeeper } from "../../server/store/housekeeping.ts";
import { openDatabase } from "../../server/store/orm.ts";
import { openTestDatabase } from "../helpers/database.ts";
import { spawnGateway, startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { openTestGraph, type TestGraph } from "../helpers/graph.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import {
  aChange,
  aContact,
  aMessage,
  anEcho,
  anEnvelope,
  anInboundBody,
  aTextMessage,
  business,
} from "../helpers/whatsapp-bodies.ts";

const accessToken = "EAA-token-of-the-shop";
const picture = randomBytes(200_000);
const clock = { aheadMs: 0, sleep: systemClock.sleep, now: () => new Date(Date.now() + clock.aheadMs) };
let graph: TestGraph;
let gateway: TestGateway;
let receiver: Receiver;
beforeAll(async () => {
  graph = await openTestGraph();
  graph.addNumber(business.phoneNumberId, accessToken);
  gateway = await startTestGateway({ env: { WHATSAPP_GRAPH_URL: graph.url }, clock });
  await createClient("shop", business.phoneNumberId, accessToken);
});
afterAll(async () => {
  await gateway.close();
  await graph.close();
});
beforeEach(async () => {
  receiver = await startReceiver();
});
afterEach(() => receiver.close());

async function createClient(name: string, phoneNumberId: string, token: string | null, of = gateway) {
  const answer = await of.call("ClientService/CreateClient", {
    client_ref: name,
    phone_numbers: [{ phone_number_id: phoneNumberId }],
    ...(token !== null && { access_token: token }),
  });
  expect(answer.status).toBe(200);
}

let messageCount = 0;
const now = () => String(Math.floor(Date.now() / 1000));
function aFileMessage(type: string, mediaId: string | null, rest: object = {}) {
  const media = {
    ...(mediaId !== null && { id: mediaId }),
    mime_type: "x/x",
    sha256: "q83vEjRWeJA=",
    ...rest,
  };
  return aMessage(type, media, { id: `wamid.media-${++messageCount}`, timestamp: now() });
}
function addFile(mediaId: string, mimeType: string, bytes: Uint8Array = picture) {
  graph.media.add(mediaId, { bytes, mimeType, phoneNumberId: business.phoneNumberId, accessToken });
}

/** `attachment_url` of the messages of a body, in their order. */
async function linksOf(body: unknown, messages: number): Promise<(string | null)[]> {
  const { id } = await gateway.createWebhook({
    webhooks: `${receiver.url}?${messageCount}`,
    transformer: "insights",
    outgoing: true,
  });
  expect(await gateway.postBody(body)).toBe(200);
  const requests = await receiver.waitForRequests(messages);
  await gateway.call("WebhookService/DeleteWebhook", { id });
  const payloads = requests.map((request) => JSON.parse(request.body.toString()));
  return payloads
    .sort((first, second) => first.last_messages.length - second.last_messages.length)
    .map((payload) => payload.attachment_url);
}

test.each(["image", "video", "audio", "voice", "document", "sticker"])(
  "a received %s has a link that gives its bytes",
  async (type) => {
    addFile(`id-of-${type}`, "application/octet-stream");
    const [link] = await linksOf(anInboundBody(aFileMessage(type, `id-of-${type}`)), 1);
    expect(link).toMatch(new RegExp(`^${gateway.url()}/media/[A-Za-z0-9_-]{32}$`));
    const answer = await fetch(link!);
    expect(answer.status).toBe(200);
    expect(Buffer.from(await answer.arrayBuffer()).equals(picture)).toBe(true);
  },
);

test("a text has none, and neither has a file that WhatsApp could not fetch", async () => {
  expect(await linksOf(anInboundBody(aTextMessage({ id: "wamid.no-file", timestamp: now() })), 1)).toEqual([
    null,
  ]);
  expect(await linksOf(anInboundBody(aFileMessage("image", null)), 2)).toContain(null);
});

test("an echoed picture has one, too", async () => {
  addFile("id-of-echo", "image/png");
  const echo = {
    ...anEcho({ id: "wamid.echo-1", timestamp: now(), type: "image" }),
    image: { id: "id-of-echo" },
  };
  const body = anEnvelope([
    aChange({ contacts: [aContact()], message_echoes: [echo] }, "smb_message_echoes"),
  ]);
  const [link] = await linksOf(body, 1);
  expect((await fetch(link!)).headers.get("content-type")).toBe("image/png");
});

test("a document keeps the name that its sender gave it, and none of its paths", async () => {
  addFile("id-of-bill", "application/pdf");
  const [link] = await linksOf(
    anInboundBody(aFileMessage("document", "id-of-bill", { filename: "../Käse.pdf" })),
    1,
  );
  expect((await fetch(link!)).headers.get("content-disposition")).toBe(
    "attachment; filename=\"K_se.pdf\"; filename*=UTF-8''K%C3%A4se.pdf",
  );
});

test("a link is good for 7 days, and a month later it is forgotten", async () => {
  addFile("id-of-old", "image/jpeg");
  const [link] = await linksOf(anInboundBody(aFileMessage("image", "id-of-old")), 1);
  const day = 24 * 3_600_000;
  try {
    clock.aheadMs = 7 * day - 60_000;
    expect((await fetch(link!)).status).toBe(200);
    clock.aheadMs = 7 * day + 60_000;
    expect((await fetch(link!)).status).toBe(410);
    clock.aheadMs = 36 * day;
    await sweep();
    expect((await fetch(link!)).status).toBe(410);
    clock.aheadMs = 38 * day;
    await sweep();
    expect((await fetch(link!)).status).toBe(404);
  } finally {
    clock.aheadMs = 0;
  }
});

/** What the gateway does once a minute. */
async function sweep(): Promise<void> {
  const database = await openDatabase(gateway.databaseUrl, { onConnectionError: () => undefined });
  const housekeeper = createHousekeeper(
    { database, clock, log: pino({ level: "silent" }) },
    { logDays: 30, conversationDays: 0, auditDays: 400 },
  );
  await housekeeper.sweep();
  await housekeeper.close();
  await database.close();
}

test("a link goes with its message", async () => {
  addFile("id-of-erased", "image/jpeg");
  const [link] = await linksOf(anInboundBody(aFileMessage("image", "id-of-erased")), 1);
  await queryRows(gateway.databaseUrl)("DELETE FROM message WHERE media_id = 'id-of-erased'");
  expect((await fetch(link!)).status).toBe(404);
});

test("links outlive that two contacts prove to be one, and go with the one that they became", async () => {
  const known = { phone: "15558880311", bsuid: "US.70000000000000000311" };
  const body = (contact: object, from: object, message: object) =>
    anEnvelope([aChange({ contacts: [contact], messages: [{ ...message, from: undefined, ...from }] })]);
  addFile("id-of-phone", "image/jpeg");
  addFile("id-of-bsuid", "image/jpeg");
  const byPhone = { wa_id: known.phone };
  const byId = { user_id: known.bsuid };
  const [first] = await linksOf(
    body(byPhone, { from: known.phone }, aFileMessage("image", "id-of-phone")),
    1,
  );
  receiver.requests.length = 0;
  const [second] = await linksOf(
    body(byId, { from_user_id: known.bsuid }, aFileMessage("image", "id-of-bsuid")),
    1,
  );
  expect(new Set([first, second]).size).toBe(2);
  const both = aTextMessage({ id: "wamid.both-names", timestamp: now() });
  await gateway.postBody(
    body({ ...byPhone, ...byId }, { from: known.phone, from_user_id: known.bsuid }, both),
  );
  const { body: listed } = await gateway.call("ContactService/ListContacts", { client_ref: "shop" });
  const joined = listed.contacts.filter(
    (one: { phone?: string; bsuid?: string }) => one.phone === `+${known.phone}` || one.bsuid === known.bsuid,
  );
  expect(joined).toMatchObject([{ phone: `+${known.phone}`, bsuid: known.bsuid }]);
  for (const link of [first, second]) expect((await fetch(link!)).status).toBe(200);
  await gateway.call("ContactService/DeleteContact", { user_id: joined[0].user_id });
  for (const link of [first, second]) expect((await fetch(link!)).status).toBe(404);
});

test("a link asks WhatsApp with the token of its own client, whoever else there is", async () => {
  const others = "EAA-token-of-the-workshop";
  graph.addNumber("6209", others);
  await createClient("workshop", "6209", others);
  graph.media.add("id-of-two", {
    bytes: picture,
    mimeType: "image/jpeg",
    phoneNumberId: "6209",
    accessToken: others,
  });
  // The shop's user names the file of the workshop's.
  const [link] = await linksOf(anInboundBody(aFileMessage("image", "id-of-two")), 1);
  expect((await fetch(link!)).status).toBe(502);
  const { accessToken: used } = graph.requests.findLast(({ path }) => path === "/id-of-two")!;
  expect(used).toBe(accessToken);
});

test("a client without an access token: the answer names the fix", async () => {
  await createClient("tokenless", "6210", null);
  const metadata = { display_phone_number: "15557770110", phone_number_id: "6210" };
  const message = aFileMessage("image", "id-of-nobody");
  const [link] = await linksOf(
    anEnvelope([{ field: "messages", value: { metadata, contacts: [aContact()], messages: [message] } }]),
    1,
  );
  const answer = await fetch(link!);
  expect(answer.status).toBe(502);
  expect((await answer.json()) as object).toMatchObject({ message: expect.stringContaining("access_token") });
});

test("every attempt shows the same link: after a restart, with another public URL and another master key", async () => {
  const database = await openTestDatabase();
  const key = (fill: number) => Buffer.alloc(32, fill).toString("base64");
  const start = (publicUrl: string, masterKeys: string) =>
    startTestGateway({
      databaseUrl: database.url,
      env: { POSTHORN_PUBLIC_URL: publicUrl, POSTHORN_MASTER_KEY: masterKeys, WHATSAPP_GRAPH_URL: graph.url },
    });
  let running = await start("https://first.example/posthorn", key(7));
  try {
    await createClient("shop", business.phoneNumberId, accessToken, running);
    const { id } = await running.createWebhook({ webhooks: receiver.url, transformer: "insights" });
    const held = await running.createWebhook({
      webhooks: `${receiver.url}?held`,
      transformer: "insights",
      paused: true,
    });
    addFile("id-of-kept", "image/jpeg");
    await running.postBody(anInboundBody(aFileMessage("image", "id-of-kept")));
    await running.waitForStates(1, ["delivered"], { webhook_id: id });
    await running.close();
    // The second webhook's body is made only now.
    running = await start("https://second.example", `${key(8)},${key(7)}`);
    await running.updateWebhook(held.id, { paused: false });
    const [first, second] = await receiver.waitForRequests(2);
    expect(second!.body).toEqual(first!.body);
    const link = JSON.parse(second!.body.toString()).attachment_url as string;
    expect(link).toMatch(/^https:\/\/first\.example\/posthorn\/media\//);
    const answer = await fetch(link.replace("https://first.example/posthorn", running.url()));
    expect(answer.status).toBe(200);
  } finally {
    await running.close();
    await database.close();
  }
}, 30_000);

test("a video of 16 MB costs less than 10 MB of memory, and so does one whose reader stands still", async () => {
  const database = await openTestDatabase();
  const spawned = await spawnGateway({ DATABASE_URL: database.url, WHATSAPP_GRAPH_URL: graph.url });
  const residentBytes = () =>
    Number(execFileSync("ps", ["-o", "rss=", "-p", String(spawned.pid())], { encoding: "utf8" })) * 1024;
  try {
    await spawned.call("ClientService/CreateClient", {
      client_ref: "shop",
      phone_numbers: [{ phone_number_id: business.phoneNumberId }],
      access_token: accessToken,
    });
    await spawned.createWebhook({ webhooks: receiver.url, transformer: "insights" });
    addFile("id-of-warm-up", "image/jpeg");
    addFile("id-of-video", "video/mp4", randomBytes(16 * 1024 * 1024));
    // More than the buffers of the system hold on its way.
    addFile("id-of-film", "video/mp4", Buffer.alloc(64 * 1024 * 1024));
    const links: string[] = [];
    for (const name of ["warm-up", "video", "film"]) {
      await spawned.postBody(anInboundBody(aFileMessage("video", `id-of-${name}`)));
      const requests = await receiver.waitForRequests(links.length + 1);
      links.push(JSON.parse(requests.at(-1)!.body.toString()).attachment_url);
    }
    const [warmUp, video, film] = links as [string, string, string];
    for (let round = 0; round < 10; round++) await (await fetch(warmUp)).arrayBuffer();
    const before = residentBytes();
    const costMegabytes = () => (residentBytes() - before) / 1024 / 1024;
    let peak = 0;
    let byteCount = 0;
    let looks = 0;
    for await (const chunk of (await fetch(video)).body!) {
      byteCount += chunk.byteLength;
      // At every quarter of a megabyte.
      if (byteCount / 262_144 < looks) continue;
      looks = Math.floor(byteCount / 262_144) + 1;
      peak = Math.max(peak, costMegabytes());
    }
    expect(byteCount).toBe(16 * 1024 * 1024);
    expect(peak).toBeLessThan(10);
    const writtenBefore = graph.media.bytesWritten();
    const reading = get(film, (response) => response.pause());
    reading.on("error", () => undefined);
    let seen = -1;
    await waitFor(
      "standstill",
      async () => {
        const written = graph.media.bytesWritten() - writtenBefore;
        const isStill = written > 0 && written === seen;
        seen = written;
        return new Promise<boolean>((resolve) => setTimeout(resolve, 200, isStill));
      },
      (isStill) => isStill,
    );
    expect(costMegabytes()).toBeLessThan(10);
    expect(seen).toBeLessThan(64 * 1024 * 1024);
    reading.destroy();
    expect(await graph.media.downloads.at(-1)!.ended).toBe(false);
  } finally {
    await spawned.close();
    await database.close();
  }
}, 60_000);
