/** The payload that the relay makes of a WhatsApp text message: the bytes of format `intelli`, by the shortest way. */

/** The value of a change that carries one message and its contact. */
export interface RelayedEvent {
  metadata: { display_phone_number: string; phone_number_id: string };
  contacts: { wa_id: string; profile: { name: string } }[];
  messages: { from: string; id: string; type: string; timestamp: string; text: unknown }[];
}

export function writePayload({ metadata, contacts, messages }: RelayedEvent, clientRef: string): string {
  const { from, id, type, timestamp, text, ...rest } = messages[0]!;
  const { wa_id, profile } = contacts[0]!;
  return JSON.stringify({
    event: "message.received",
    timestamp: `${new Date(Number(timestamp) * 1_000).toISOString().slice(0, -".000Z".length)}Z`,
    client_ref: clientRef,
    phone_number: `+${metadata.display_phone_number}`,
    from: `+${from}`,
    message: { id, type, text, timestamp, ...rest },
    contact: { name: profile.name, wa_id },
  });
}
