/**
 * Sample events for trying a webhook out. Each is the body that WhatsApp would send, split as a real one is, so that what
 * a transformer gets has the shape of the real thing. People, numbers and ids are made up.
 */

import type { EventType, IncomingEvent } from "../domain/event.ts";
import { splitBody } from "./envelope.ts";

type Json = Record<string, unknown>;

const business = { wabaId: "100000000000001", phoneNumberId: "100000000000002", phone: "15550100100" };
const person = { phone: "15550100200", name: "Sam Sample" };

/** @returns null for a type that WhatsApp's bodies cannot hold */
export function makeSampleEvent(type: EventType, at: Date): IncomingEvent | null {
  const change = makeChange(type, String(Math.floor(at.getTime() / 1000)));
  if (change === null) return null;
  const entry = { id: business.wabaId, time: Math.floor(at.getTime() / 1000), changes: [change] };
  const body = JSON.stringify({ object: "whatsapp_business_account", entry: [entry] });
  const { events } = splitBody(Buffer.from(body), at);
  return events.find((event) => event.type === type) ?? null;
}

function makeChange(type: EventType, timestamp: string): Json | null {
  switch (type) {
    case "message.received":
      return inbound("messages", {
        from: person.phone,
        id: "wamid.SAMPLE0001",
        timestamp,
        type: "text",
        text: { body: "Hello! This is a sample message." },
      });
    case "message.reaction":
      return inbound("messages", {
        from: person.phone,
        id: "wamid.SAMPLE0002",
        timestamp,
        type: "reaction",
        reaction: { message_id: "wamid.SAMPLE0004", emoji: "👍" },
      });
    case "message.status":
      return inbound("statuses", {
        id: "wamid.SAMPLE0004",
        status: "delivered",
        timestamp,
        recipient_id: person.phone,
        pricing: { billable: true, pricing_model: "PMP", type: "regular", category: "utility" },
      });
    case "message.sent":
      return ofNumber("smb_message_echoes", {
        message_echoes: [
          {
            from: business.phone,
            to: person.phone,
            id: "wamid.SAMPLE0004",
            timestamp,
            type: "text",
            text: { body: "Thank you for trying this out." },
          },
        ],
      });
    case "whatsapp.error":
      return ofNumber("messages", {
        errors: [
          {
            code: 130429,
            title: "Rate limit hit",
            message: "Rate limit hit",
            error_data: { details: "Message failed to send because there were too many messages sent." },
          },
        ],
      });
    case "whatsapp.user_action":
      return ofNumber("messages", {
        user_actions: [
          { timestamp, action_type: "marketing_messages_link_click", marketing_messages_link_click_data: {} },
        ],
      });
    default: {
      const field = /^whatsapp\.([a-z0-9_]+)$/.exec(type)?.[1];
      return field === undefined ? null : makeAccountChange(field, timestamp);
    }
  }
}

function makeAccountChange(field: string, timestamp: string): Json {
  switch (field) {
    case "account_update":
      return { field, value: { event: "VERIFIED_ACCOUNT", phone_number: business.phone } };
    case "account_review_update":
      return { field, value: { decision: "APPROVED" } };
    case "message_template_status_update":
      return {
        field,
        value: {
          event: "APPROVED",
          message_template_id: 100000000000003,
          message_template_name: "order_confirmation",
          message_template_language: "en_US",
          reason: "NONE",
        },
      };
    case "message_template_quality_update":
      return {
        field,
        value: {
          previous_quality_score: "GREEN",
          new_quality_score: "YELLOW",
          message_template_id: 100000000000003,
          message_template_name: "order_confirmation",
          message_template_language: "en_US",
        },
      };
    case "phone_number_quality_update":
      return {
        field,
        value: { display_phone_number: business.phone, event: "UPGRADE", current_limit: "TIER_10K" },
      };
    case "phone_number_name_update":
      return {
        field,
        value: {
          display_phone_number: business.phone,
          decision: "APPROVED",
          requested_verified_name: "Sample Shop",
          rejection_reason: null,
        },
      };
    case "user_preferences":
      return ofNumber(field, {
        contacts: [aContact()],
        user_preferences: [
          {
            wa_id: person.phone,
            detail: "User requested to stop marketing messages",
            category: "marketing_messages",
            value: "stop",
            timestamp: Number(timestamp),
          },
        ],
      });
    case "calls":
      return ofNumber(field, {
        contacts: [aContact()],
        calls: [
          {
            id: "wacid.SAMPLE0005",
            from: person.phone,
            to: business.phone,
            event: "terminate",
            direction: "USER_INITIATED",
            status: "COMPLETED",
            timestamp,
            duration: 42,
          },
        ],
      });
    default:
      // WhatsApp adds fields as it likes: of those not listed here only the envelope can be shown.
      return ofNumber(field, {});
  }
}

function inbound(list: "messages" | "statuses", item: Json): Json {
  return ofNumber("messages", { contacts: [aContact()], [list]: [item] });
}

function aContact(): Json {
  return { profile: { name: person.name }, wa_id: person.phone };
}

function ofNumber(field: string, value: Json): Json {
  const metadata = { display_phone_number: business.phone, phone_number_id: business.phoneNumberId };
  return { field, value: { messaging_product: "whatsapp", metadata, ...value } };
}
