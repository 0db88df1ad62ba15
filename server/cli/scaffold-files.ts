/** What a new plugin begins with: path in its folder and text. */

import { sampleBodies } from "../../plugins/testing/bodies.ts";

/** @param name  of the transformer */
export function scaffoldFiles(name: string): Record<string, string> {
  return {
    "transformer.ts": transformerFile(name),
    "options.ts": optionsFile,
    "transformer.test.ts": testFile,
    "README.md": readmeFile(name),
    "samples/text.json": sampleFile("text"),
    "samples/image.json": sampleFile("image"),
    "samples/button-reply.json": sampleFile("button reply"),
  };
}

function sampleFile(name: string): string {
  const [, body] = sampleBodies().find(([known]) => known === name)!;
  return `${JSON.stringify(body, null, 2)}\n`;
}

function transformerFile(name: string): string {
  return `import { contentOf, defineTransformer, mediaOf, readItem, readOptions, toE164, toIsoTime } from "posthorn/plugin";
import { optionsSchema } from "./options.ts";

/** What our endpoint takes: an object for each message. README.md tells what is in it. */
export default defineTransformer({
  name: "${name}",
  version: "0.1.0", // Goes up whenever the bytes could change: the log names it beside each payload.
  description: "Messages as our endpoint takes them.",
  handles: ["message.received"],
  optionsSchema,
  pure: true, // The same input always gives the same bytes: no clock, no chance, no network.
  transform(input) {
    const { event, options } = input;
    const { label } = readOptions(optionsSchema, options);
    const item = readItem(event);
    if (item.type === "unsupported" || item.type === "unknown") return undefined; // Nothing is sent.
    const file = mediaOf(input);
    return {
      label,
      id: item.type === "change" ? null : item.id,
      from: toE164(event.user?.phone) ?? event.user?.bsuid ?? null,
      name: event.user?.profileName ?? null,
      at: toIsoTime(event.occurredAt ?? event.receivedAt),
      type: item.type,
      text: contentOf(event),
      file: file === null ? null : { url: file.url, type: file.mimeType },
    };
  },
});
`;
}

const optionsFile = `/** JSON Schema of \`transformer_options\`: what each webhook may set. The gateway refuses everything else. */
export const optionsSchema = {
  type: "object",
  properties: {
    label: {
      type: "string",
      maxLength: 100,
      default: "WhatsApp",
      description: "Tells the endpoint where the message comes from.",
    },
  },
  additionalProperties: false,
} as const;
`;

const testFile = `import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { assertSound, readSamples, type Sample, transformSample } from "posthorn/plugin/testing";
import transformer from "./transformer.ts";

test("no kind of event breaks it", async () => {
  await assertSound(transformer, {
    bodySchema: {
      type: "object",
      required: ["label", "id", "from", "name", "at", "type", "text", "file"],
      properties: { at: { type: "string", format: "date-time" }, text: { type: "string" } },
      additionalProperties: true,
    },
  });
});

test("a text message, byte for byte", async () => {
  const result = await transformSample(transformer, sampleIn("text.json"));
  assert(result.kind === "made");
  assert.equal(
    result.text,
    '{"label":"WhatsApp","id":"wamid.SAMPLE-1","from":"+15550100200","name":"Sam Sample","at":"2026-03-05T12:00:00Z",' +
      '"type":"text","text":"Hello! Is 3 < 4 & 5 > 4? 👍","file":null}',
  );
});

test("the label is the webhook's", async () => {
  const result = await transformSample(transformer, sampleIn("button-reply.json"), { label: "Support" });
  assert(result.kind === "made");
  assert.partialDeepStrictEqual(JSON.parse(result.text), { label: "Support", text: "Yes" });
});

test("an image comes with a link to the file", async () => {
  const result = await transformSample(transformer, sampleIn("image.json"));
  assert(result.kind === "made");
  const { file } = JSON.parse(result.text);
  assert.match(file.url, /^https:/);
  assert.equal(file.type, "image/jpeg");
});

/** The one event of a body as WhatsApp sends it. */
function sampleIn(file: string): Sample {
  return readSamples(readFileSync(new URL(\`./samples/\${file}\`, import.meta.url), "utf8"))[0]!;
}
`;

function readmeFile(name: string): string {
  return `# \`${name}\`

One request for each message of a WhatsApp user. (Shown on several lines here, sent on one.)

\`\`\`json
{
  "label": "WhatsApp",
  "id": "wamid.SAMPLE-1",
  "from": "+15550100200",
  "name": "Sam Sample",
  "at": "2026-03-05T12:00:00Z",
  "type": "text",
  "text": "Hello! Is 3 < 4 & 5 > 4? 👍",
  "file": null
}
\`\`\`

| key | content |
| --- | --- |
| \`label\` | the option \`label\` of the webhook |
| \`id\` | WhatsApp's id of the message |
| \`from\` | the user's number, or the business-scoped id of a user without one |
| \`name\` | profile name, \`null\` if WhatsApp gave none |
| \`at\` | when it was written |
| \`type\` | WhatsApp's type: \`text\`, \`image\`, \`location\`, … |
| \`text\` | what there is to read in it: body, caption, chosen button, … |
| \`file\` | link to the file, good for 7 days, and its type; \`null\` if there is none |

## Options

| option | values | default |
| --- | --- | --- |
| \`label\` | text of up to 100 characters | \`WhatsApp\` |

## Working on it

In the gateway's directory, with the path of this folder:

\`\`\`
npx posthorn plugin test …/${name}
npx posthorn transform ${name} --plugins …/${name} --options '{"label": "Support"}' < …/${name}/samples/text.json
\`\`\`

The first runs the transformer on sample events of every kind, then \`transformer.test.ts\`. To keep all results in a file and
see every byte that changes, add \`await assertSnapshot(transformer, new URL("./results.txt", import.meta.url))\` to a test.
`;
}
