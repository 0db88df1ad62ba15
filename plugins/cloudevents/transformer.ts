/** The `cloudevents` format: CloudEvents 1.0, structured mode, JSON. README.md shows the payload. */

import {
  defineTransformer,
  isJsonObject,
  readOptions,
  respond,
  type TransformerEvent,
} from "../transformer.ts";

const optionsSchema = {
  type: "object",
  properties: {
    source: {
      type: "string",
      format: "uri-reference",
      minLength: 1,
      maxLength: 500,
      description: "The attribute source of every event. Default: /whatsapp/<WABA id>/<phone number id>.",
    },
    type_prefix: {
      type: "string",
      pattern: "^[a-z0-9.-]*$",
      maxLength: 200,
      default: "",
      description: "Stands before the event's type, such as com.example.whatsapp. (with the last dot).",
    },
  },
  additionalProperties: false,
} as const;

export default defineTransformer({
  name: "cloudevents",
  version: "1.0.0",
  description: "CloudEvents 1.0 in structured JSON, the WhatsApp item as its data.",
  handles: ["message.*", "whatsapp.*", "posthorn.*"],
  optionsSchema,
  pure: true,
  transform({ event, options }) {
    const { source = sourceOf(event), type_prefix } = readOptions(optionsSchema, options);
    const attributes = {
      specversion: "1.0",
      id: event.id,
      source,
      type: `${type_prefix}${event.type}`,
      time: timeOfEvent(event),
      subject: subjectOf(event),
      clientref: textAttribute(event.clientRef),
      datacontenttype: "application/json",
    };
    // The item's own text is the data, so that its numbers stay as WhatsApp wrote them.
    const body = `${JSON.stringify(attributes).slice(0, -1)},"data":${event.itemJson}}`;
    return respond({ body, contentType: "application/cloudevents+json; charset=utf-8" });
  },
});

/** Id and source together are the same for no two events, as the specification wants it. */
function sourceOf({ wabaId, phoneNumberId }: TransformerEvent): string {
  const parts = [wabaId, phoneNumberId].filter((id) => id !== null);
  return ["/whatsapp", ...parts.map((id) => encodeURIComponent(id.toWellFormed()))].join("/");
}

/** Absent for an instant that RFC 3339, with its years of four digits, cannot say. */
function timeOfEvent({ occurredAt, receivedAt }: TransformerEvent): string | undefined {
  const text = (occurredAt ?? receivedAt).toISOString();
  return /^\d{4}-/.test(text) ? text : undefined;
}

/** WhatsApp's id of the message that the event is about; absent for what is about no message. */
function subjectOf({ type, item }: TransformerEvent): string | undefined {
  const isAboutMessage = type.startsWith("message.") && isJsonObject(item);
  return isAboutMessage && typeof item.id === "string" ? textAttribute(item.id) : undefined;
}

/** CloudEvents attributes are not empty and hold no control characters, noncharacters or halves of characters. */
function textAttribute(text: string | null): string | undefined {
  const isFit =
    text !== null &&
    text.length > 0 &&
    text.length <= 256 &&
    text.isWellFormed() &&
    !/[\p{Cc}\p{Noncharacter_Code_Point}]/u.test(text);
  return isFit ? text : undefined;
}
