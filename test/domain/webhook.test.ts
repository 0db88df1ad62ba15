import { describe, expect, test } from "vitest";
import { admits, triggerOf, type Webhook, wantsType } from "../../server/domain/webhook.ts";

function aWebhook(changes: Partial<Webhook> = {}): Webhook {
  return {
    id: 1205,
    tenantId: 1,
    clientId: null,
    clientRef: null,
    url: "https://example.com/hook",
    isEnabled: true,
    isPaused: false,
    incoming: true,
    outgoing: true,
    scheduleActivity: false,
    waitingDurationSeconds: 0,
    isSigned: true,
    transformer: "intelli",
    transformerOptions: null,
    eventTypes: [],
    maxInFlight: 64,
    description: "",
    disabledReason: null,
    disabledAt: null,
    createdAt: new Date(0),
    updatedAt: new Date(0),
    ...changes,
  };
}

const handlesAll = ["*"];
const received = { type: "message.received", clientId: 5 };

describe("an event is admitted when", () => {
  test("the webhook is enabled; a paused one still admits", () => {
    expect(admits(aWebhook(), received, handlesAll)).toBe(true);
    expect(admits(aWebhook({ isPaused: true }), received, handlesAll)).toBe(true);
    expect(admits(aWebhook({ isEnabled: false }), received, handlesAll)).toBe(false);
  });

  test.each<[number | null, number | null, boolean]>([
    [null, 5, true],
    [null, null, true],
    [5, 5, true],
    [5, 6, false],
    [5, null, false],
  ])("the client matches: webhook %s, event %s gives %s", (clientId, eventClientId, expected) => {
    const event = { type: "message.received", clientId: eventClientId };
    expect(admits(aWebhook({ clientId }), event, handlesAll)).toBe(expected);
  });
});

describe("a type is wanted", () => {
  test.each<[string, boolean, boolean, string[], boolean]>([
    // type, incoming, outgoing, event_types, wanted
    ["message.received", true, false, [], true],
    ["message.received", false, true, [], false],
    ["message.received", true, false, ["message.received"], true],
    ["message.received", true, false, ["message.reaction"], false],
    ["message.received", false, false, ["message.received"], false],
    ["message.reaction", true, false, [], true],
    ["message.reaction", false, true, ["message.*"], false],
    ["message.status", false, true, [], true],
    ["message.status", true, false, [], false],
    ["message.sent", false, true, ["message.*"], true],
    ["message.sent", false, true, ["message.status"], false],
    ["whatsapp.account_update", true, true, [], false],
    ["whatsapp.account_update", false, false, ["whatsapp.account_update"], true],
    ["whatsapp.account_update", false, false, ["whatsapp.*"], true],
    ["whatsapp.account_update", false, false, ["*"], true],
    ["whatsapp.account_update", true, true, ["message.received"], false],
    ["whatsapp.account_update_more", true, true, ["whatsapp.account_update"], false],
    ["posthorn.delivery.failed", true, true, [], false],
    ["posthorn.delivery.failed", false, false, ["posthorn.*"], true],
  ])("%s, incoming %s, outgoing %s, event_types %j: %s", (type, incoming, outgoing, eventTypes, expected) => {
    expect(wantsType({ incoming, outgoing, eventTypes }, type, handlesAll)).toBe(expected);
  });

  test("never when the transformer does not handle it", () => {
    const webhook = { incoming: true, outgoing: true, eventTypes: ["*"] };
    expect(wantsType(webhook, "message.status", ["message.received", "message.sent"])).toBe(false);
    expect(wantsType(webhook, "message.status", ["message.*"])).toBe(true);
    expect(wantsType(webhook, "message.status", [])).toBe(false);
  });
});

test.each([
  ["message.received", "incoming"],
  ["message.reaction", "incoming"],
  ["message.status", "outgoing"],
  ["message.sent", "outgoing"],
  ["whatsapp.error", null],
  ["posthorn.webhook.disabled", null],
])("the trigger of %s is %s", (type, expected) => {
  expect(triggerOf(type)).toBe(expected);
});
