/** The `slack` format: a message for a Slack incoming webhook, or whatever takes the same. README.md shows it. */

import { defineTransformer, readOptions } from "../transformer.ts";
import { escapeText, shorten } from "./mrkdwn.ts";
import { tell } from "./tell.ts";

const optionsSchema = {
  type: "object",
  properties: {
    channel: {
      type: "string",
      minLength: 1,
      maxLength: 80,
      description:
        "Channel such as #support, for receivers that let the message choose. Default: the receiver's own.",
    },
    username: {
      type: "string",
      minLength: 1,
      maxLength: 80,
      description: "Name that the message is shown under.",
    },
    icon_emoji: {
      type: "string",
      pattern: "^:[a-z0-9_+'-]{1,100}:$",
      description: "Emoji to show beside it, such as :incoming_envelope:.",
    },
    template: {
      type: "string",
      minLength: 1,
      maxLength: 3000,
      description:
        "Text in Slack's mrkdwn with {who}, {phone}, {client}, {what}, {content} and {link} in it.",
    },
    statuses: {
      type: "string",
      enum: ["none", "failed", "all"],
      default: "failed",
      description: "Which statuses of sent messages are told.",
    },
  },
  additionalProperties: false,
} as const;

/** Slack cuts longer texts, and refuses longer sections. */
const textLengthMax = 4_000;
const sectionLengthMax = 3_000;

export default defineTransformer({
  name: "slack",
  version: "1.0.0",
  description: "A message for a Slack channel: who wrote what, with a link to the file.",
  handles: ["message.*"],
  optionsSchema,
  pure: true,
  transform(input) {
    const { channel, username, icon_emoji, template, statuses } = readOptions(optionsSchema, input.options);
    const told = tell(input, statuses);
    if (told === null) return undefined;
    const look = { channel, username, icon_emoji };
    if (template !== undefined) return { ...look, text: shorten(fill(template, told), textLengthMax) };
    const headline = `*${escapeText(told.who)}* ${escapeText(told.what)}`;
    const content = escapeText(told.content);
    const context = [told.phone, told.client].filter((part) => part !== "").map(escapeText);
    if (told.link !== "") context.push(`<${escapeText(told.link)}|open file>`);
    return {
      ...look,
      text: shorten(content === "" ? headline : `${headline}: ${content}`, textLengthMax),
      blocks: [
        section(headline),
        ...(content === "" ? [] : [section(content)]),
        ...(context.length === 0 ? [] : [{ type: "context", elements: [mrkdwn(context.join(" · "))] }]),
      ],
    };
  },
});

function section(text: string) {
  return { type: "section", text: mrkdwn(shorten(text, sectionLengthMax)) };
}

/** `verbatim`: a `#name` or `@name` in what somebody wrote on WhatsApp calls nobody on Slack. */
function mrkdwn(text: string) {
  return { type: "mrkdwn", text, verbatim: true };
}

/** The template itself is mrkdwn of the operator's; what is filled in is not. */
function fill(template: string, told: Readonly<Record<string, string>>): string {
  return template.replace(/\{([a-z]+)\}/g, (placeholder, name: string) =>
    Object.hasOwn(told, name) ? escapeText(told[name]!) : placeholder,
  );
}
