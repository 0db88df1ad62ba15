/** What the plugin layer costs a delivery: the step that makes the payload, in the thread that runs it. */

import { builtinTransformers } from "../../plugins/builtin.ts";
import type { JobConversation, JobMessage, TransformTask } from "../../server/workers/job.ts";
import { makePayload } from "../../server/workers/transform.ts";
import { makePluginDirectory, openTestPlugins, pluginSource } from "../helpers/plugins.ts";
import { aTextMessage, business, customer } from "../helpers/whatsapp-bodies.ts";
import { makeBody } from "./bodies.ts";
import { type Spread, spreadOf } from "./figures.ts";
import type { Lab } from "./lab.ts";
import { cpuSecondsOf } from "./processes.ts";
import { writePayload } from "./relay-payload.ts";
import type { Measure, Section } from "./section.ts";

const roundCount = 5;
const payloadsPerRound = 20_000;
const warmUpCount = 20_000;
const budgetMs = 250;
/** So many payloads are asked of a plugin at once. */
const pluginBatch = 64;
const timestamp = "1772712000";

/** Whatever makes payloads in this thread. */
interface PayloadMaker {
  label: string;
  /** Makes one payload; rejects or throws if there is none. */
  make(): unknown;
}

export async function measureTransform(lab: Lab): Promise<Section> {
  const count = Math.ceil(payloadsPerRound * lab.scale);
  const relay = await measureMaker(relayMaker(), count);
  const measures: Measure[] = [];
  for (const maker of ownMakers()) {
    const gateway = await measureMaker(maker, count);
    measures.push({ label: maker.label, unit: "µs", gateway, relay });
  }
  measures.push(...(await measurePlugins(count)));
  return {
    name: "Payload",
    title: "Cost of making a payload",
    notes: [
      `${count.toLocaleString("en-US")} payloads a round, one after the other in one thread, whose processor time counts; a text message, with the messages of its conversation where told.`,
      "The relay's figure is its JSON.parse of the whole body and its JSON.stringify of the payload.",
      `An operator's plugin runs in a process of its own: ${pluginBatch} payloads at once, the processor time of both processes.`,
    ],
    measures,
  };
}

/**
 * Microseconds a payload: the processor time of this thread, not that of the clock, since others may have the core
 * meanwhile.
 */
async function measureMaker(maker: PayloadMaker, count: number): Promise<Spread> {
  for (let index = 0; index < warmUpCount; index++) await maker.make();
  const rounds: number[] = [];
  for (let round = 0; round < roundCount; round++) {
    const before = process.threadCpuUsage();
    for (let index = 0; index < count; index++) await maker.make();
    const { user, system } = process.threadCpuUsage(before);
    rounds.push((user + system) / count);
  }
  return spreadOf(rounds);
}

/** Plugins as operators have them: loaded from a directory, reached over the border of a process. */
async function measurePlugins(count: number): Promise<Measure[]> {
  const directory = makePluginDirectory({
    "item.ts": pluginSource("item", "return { message: input.event.item };"),
    "talk.ts": pluginSource("talk", "return { messages: input.conversation.messages };", { history: 10 }),
  });
  const plugins = await openTestPlugins({ named: [directory.path] });
  try {
    const measures: Measure[] = [];
    for (const [label, task] of [
      ["operator's plugin", aTask("item", null)],
      ["operator's plugin, history of 10 messages", aTask("talk", aConversation(10))],
    ] as const) {
      const make = async () => {
        const made = await plugins.transform(task);
        if (made.kind !== "made") throw new Error(`the plugin made nothing: ${made.kind}`);
      };
      measures.push({ label, unit: "µs", gateway: await measureBatches(make, count) });
    }
    return measures;
  } finally {
    await plugins.close();
    directory.close();
  }
}

/** Microseconds of processor time a payload, processes that this one started included; null where that is not told. */
async function measureBatches(make: () => Promise<void>, count: number): Promise<Spread | null> {
  const batchCount = Math.ceil(count / pluginBatch);
  const makeBatch = () => Promise.all(Array.from({ length: pluginBatch }, make));
  for (let batch = 0; batch < batchCount; batch++) await makeBatch();
  const rounds: number[] = [];
  for (let round = 0; round < roundCount; round++) {
    const before = await cpuSecondsOf(process.pid, true);
    for (let batch = 0; batch < batchCount; batch++) await makeBatch();
    const after = await cpuSecondsOf(process.pid, true);
    if (before === null || after === null) return null;
    rounds.push(((after - before) * 1_000_000) / (batchCount * pluginBatch));
  }
  return spreadOf(rounds);
}

function ownMakers(): PayloadMaker[] {
  return [
    ownMaker("intelli", "intelli", null),
    ownMaker("raw", "raw", null),
    ownMaker("insights, history of 1 message", "insights", aConversation(1)),
    ownMaker("insights, history of 10 messages", "insights", aConversation(10)),
  ];
}

/** Makes payloads as the threads that send do. */
function ownMaker(label: string, transformer: string, conversation: JobConversation | null): PayloadMaker {
  const transformers = new Map(builtinTransformers.map((one) => [one.name, one]));
  const task = aTask(transformer, conversation);
  return {
    label,
    async make() {
      const made = await makePayload(task, transformers, budgetMs);
      if (made.kind !== "made") throw new Error(`${transformer} made nothing: ${made.kind}`);
    },
  };
}

function relayMaker(): PayloadMaker {
  const body = makeBody(business.phoneNumberId, 1, timestamp).toString("utf8");
  return {
    label: "relay",
    make: () => writePayload(JSON.parse(body).entry[0].changes[0].value, "bench"),
  };
}

/** What a transformer gets for a text message. */
function aTask(transformer: string, conversation: JobConversation | null): TransformTask {
  const receivedAtMs = Number(timestamp) * 1_000 + 900;
  return {
    transformer,
    options: {},
    event: {
      id: "0199c0de-0000-7000-8000-00000000000e",
      type: "message.received",
      itemJson: JSON.stringify(aTextMessage({ body: "Message 1, as long as most are." })),
      occurredAtMs: Number(timestamp) * 1_000,
      receivedAtMs,
      phoneNumberId: business.phoneNumberId,
      businessPhone: business.phone,
      wabaId: business.wabaId,
      clientRef: "bench",
      user: { phone: customer.phone, bsuid: null, waId: customer.phone, profileName: customer.name },
    },
    conversation,
    mediaUrl: null,
  };
}

/** Question and answer in turn, the newest first. */
function aConversation(messageCount: number): JobConversation {
  const messages = Array.from(
    { length: messageCount },
    (_, index): JobMessage => ({
      sender: index % 2 === 0 ? "user" : "bot",
      content: `Message ${index}, as long as most are.`,
      contentType: "text",
      sentAtMs: (Number(timestamp) - index * 60) * 1_000,
    }),
  );
  return {
    userId: "0b9f6c52-3f0e-4a53-9a54-0d1f6d5f7c11",
    phone: customer.phone,
    bsuid: null,
    name: customer.name,
    note: "",
    noteAutomation: "",
    labels: [],
    messages,
    lastUserMessage: messages.find((message) => message.sender === "user") ?? null,
    lastBotMessage: messages.find((message) => message.sender === "bot") ?? null,
  };
}
