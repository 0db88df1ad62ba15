import { describe, expect, test } from "vitest";
import { aChange, aMessage, anEnvelope, business, type Json } from "../helpers/whatsapp-bodies.ts";
import { split, splitOne } from "./split.ts";

const notice = (system: Json, overrides: Json = {}) =>
  splitOne(anEnvelope([aChange({ messages: [aMessage("system", system, overrides)] })])).identityChanges;
const nobody = { from: undefined };

describe("a system message tells", () => {
  type Names = [string | null, string | null, string | null, string | null];
  test.each<[string, Json, Json, Names]>([
    [
      "of a new number",
      { type: "user_changed_number", wa_id: "491" },
      { from: "490" },
      ["490", null, "491", null],
    ],
    [
      "of a new number in older words",
      { type: "customer_changed_number", new_wa_id: "491", wa_id: "", customer: "490" },
      nobody,
      ["490", null, "491", null],
    ],
    [
      "of a new number that brings a new id",
      { type: "user_changed_number", wa_id: "491", user_id: "DE.2" },
      { from: "490", from_user_id: "DE.1" },
      ["490", "DE.1", "491", "DE.2"],
    ],
    [
      "of a new id",
      { type: "user_changed_user_id", user_id: "DE.2", previous_user_id: "DE.1" },
      nobody,
      [null, "DE.1", null, "DE.2"],
    ],
    [
      "of a new id whose former one only the sender says",
      { type: "user_changed_user_id", user_id: "DE.2" },
      { ...nobody, from_user_id: "DE.1" },
      [null, "DE.1", null, "DE.2"],
    ],
    [
      "of a new id whose former one only the text says",
      { type: "user_changed_user_id", user_id: "DE.2", body: "User Ann changed from DE.1 to DE.2" },
      nobody,
      [null, "DE.1", null, "DE.2"],
    ],
  ])("%s", (_, system, overrides, [fromPhone, fromId, toPhone, toId]) => {
    expect(notice(system, overrides)).toEqual([
      { from: { phone: fromPhone, bsuid: fromId }, to: { phone: toPhone, bsuid: toId } },
    ]);
  });

  test.each<[string, Json, Json]>([
    ["another notice", { type: "customer_identity_changed", wa_id: "491" }, {}],
    ["no new name", { type: "user_changed_number" }, {}],
    ["the name as it is", { type: "user_changed_number", wa_id: "490" }, { from: "490" }],
    ["nobody's former name", { type: "user_changed_number", wa_id: "491" }, nobody],
    ["no type", { wa_id: "491" }, {}],
  ])("nothing of names with %s", (_, system, overrides) => {
    expect(notice(system, overrides)).toBeUndefined();
  });
});

test("a user_id_update tells of each user that it names, whatever stands beside", () => {
  const updates = [
    { wa_id: "490", user_id: { previous: "DE.1", current: "DE.2" } },
    null,
    { user_id: { current: "DE.3" } },
    { user_id: { previous: "DE.4", current: "DE.5" } },
    { user_id: "DE.6" },
  ];
  expect(
    splitOne(anEnvelope([aChange({ user_id_update: updates }, "user_id_update")])).identityChanges,
  ).toEqual([
    { from: { phone: "490", bsuid: "DE.1" }, to: { phone: null, bsuid: "DE.2" } },
    { from: { phone: null, bsuid: "DE.4" }, to: { phone: null, bsuid: "DE.5" } },
  ]);
});

describe("a history brings along", () => {
  const history = (value: Json) => split(anEnvelope([aChange(value, "history")])).events;
  const message = (fields: Json) => ({
    id: "wamid.1",
    timestamp: "1700000000",
    type: "text",
    text: { body: "x" },
    ...fields,
  });

  test("the messages of each thread with their side, and no event of their own", () => {
    const threads = [
      { id: "490", messages: [message({ from: "490" }), message({ from: business.phone, id: "wamid.2" })] },
      { context: { user_id: "DE.1" }, messages: [message({ from_user_id: "DE.1", to: business.phone })] },
      { id: "120363041234567890", messages: [message({ from: "491" })] },
      {
        id: "492",
        messages: [message({ from: "492", timestamp: "soon" }), message({ from: "492", type: "reaction" })],
      },
      { id: "493" },
      null,
    ];
    const events = history({ history: [{ threads }, { errors: [{ code: 2593109 }] }, null] });
    expect(events.map(({ type }) => type)).toEqual(["whatsapp.history"]);
    const [first, second, ...rest] = events[0]!.imported!;
    expect(rest).toEqual([]);
    expect(first!.user).toMatchObject({ phone: "490", bsuid: null });
    expect(
      first!.messages.map(({ entry, sentAt, isFile }) => [entry.sender, entry.wamid, sentAt, isFile]),
    ).toEqual([
      ["user", "wamid.1", new Date(1700000000000), false],
      ["bot", "wamid.2", new Date(1700000000000), false],
    ]);
    expect(second!.user).toMatchObject({ phone: null, bsuid: "DE.1" });
    expect(second!.messages[0]!.entry.sender).toBe("user");
  });

  test("the file of an earlier placeholder, even where it does not say with whom", () => {
    const image = { id: "9", mime_type: "image/png", caption: "A cat" };
    const file = message({ from: business.phone, type: "image", image, text: undefined });
    const [event] = history({ messages: [file] });
    expect(event!.imported).toEqual([
      {
        user: null,
        messages: [
          {
            sentAt: new Date(1700000000000),
            isFile: true,
            entry: expect.objectContaining({
              sender: "bot",
              content: "A cat",
              contentType: "image",
              mediaId: "9",
            }),
          },
        ],
      },
    ]);
  });

  test("nothing when the owner of the phone declined", () => {
    expect(history({ history: [{ errors: [{ code: 2593109 }] }] })[0]!.imported).toBeUndefined();
  });
});
