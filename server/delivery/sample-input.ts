/** What stands around an event that was never stored, for those who try a webhook or a transformer out. */

import type { IncomingEvent } from "../domain/event.ts";
import type { History, StoredEvent } from "../store/events.ts";

const sampleUserId = "5a3b1e00-0000-4000-8000-000000000001";

/** The event as it would be read back, its contact one of our making where it has none. */
export function sampleStoredEvent(
  event: IncomingEvent,
  owner: { tenantId: number; clientId: number | null; clientRef: string | null },
  id: string,
  now: Date,
): StoredEvent {
  return {
    id,
    tenantId: owner.tenantId,
    clientId: owner.clientId,
    type: event.type,
    phoneNumberId: event.phoneNumberId,
    businessPhone: event.businessPhone,
    wabaId: event.wabaId,
    clientRef: owner.clientRef ?? "sample-client",
    occurredAt: event.occurredAt,
    receivedAt: now,
    user: event.user,
    conversation: event.entry && {
      conversationId: "0",
      sequence: 2,
      userId: sampleUserId,
      phone: event.user?.phone ?? null,
      bsuid: event.user?.bsuid ?? null,
      name: event.user?.profileName ?? "Sam Sample",
      note: "",
      noteAutomation: "",
      labels: ["sample"],
      lastUserSequence: event.entry.sender === "user" ? 2 : 1,
      lastBotSequence: event.entry.sender === "bot" ? 2 : 1,
    },
    itemJson: event.item,
  };
}

/** The event's own message, and one of the other side a minute before it; null if it is no message. */
export function sampleHistory(event: IncomingEvent, count: number, now: Date): History | null {
  const { entry } = event;
  if (entry === null) return null;
  const sentAt = event.occurredAt ?? now;
  const newest = { sequence: 2, sentAt, ...entry };
  const other = {
    sequence: 1,
    sender: entry.sender === "user" ? ("bot" as const) : ("user" as const),
    content: "Good morning, how can we help?",
    contentType: "text" as const,
    sentAt: new Date(sentAt.getTime() - 60_000),
  };
  const [user, bot] = entry.sender === "user" ? [newest, other] : [other, newest];
  return { messages: [newest, other].slice(0, count), lastUserMessage: user, lastBotMessage: bot };
}
