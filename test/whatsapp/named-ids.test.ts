import { describe, expect, test } from "vitest";
import { findNamedIds } from "../../server/whatsapp/named-ids.ts";
import { anInboundBody, business, toBytes } from "../helpers/whatsapp-bodies.ts";

const find = (text: string) => [...findNamedIds(Buffer.from(text))];

describe("findNamedIds", () => {
  test("finds number and account of a body", () => {
    const ids = findNamedIds(toBytes(anInboundBody()));
    expect(ids).toContain(business.phoneNumberId);
    expect(ids).toContain(business.wabaId);
  });

  test.each<[string, string, string[]]>([
    ["with blanks", '{"phone_number_id" :\n "1"}', ["1"]],
    ["as a number", '{"id":42}', ["42"]],
    ["inside an account update", '{"waba_info":{"waba_id":"7"}}', ["7"]],
    ["once each", '{"id":"1","x":{"id":"1"}}', ["1"]],
    ["none of messages", '{"id":"wamid.HBgL"}', []],
    ["none in other fields", '{"wa_id":"1","ids":"2"}', []],
    ["none that is too long", `{"id":"${"1".repeat(129)}"}`, []],
    ["none in nothing", "", []],
  ])("reads ids %s", (_, text, ids) => {
    expect(find(text)).toEqual(ids);
  });

  test("stops at a thousand, and takes bytes that are no text", () => {
    const many = Array.from({ length: 3_000 }, (_, index) => `"id":"n${index}"`).join(",");
    expect(find(many)).toHaveLength(1_000);
    expect(findNamedIds(Buffer.from([0xff, 0x22, 0x00])).size).toBe(0);
  });

  test.each([
    ["an unfinished id", '"id":"'],
    ["blanks without end", `"id"${" ".repeat(50)}`],
    ["quotes", '"'],
  ])("takes little time for 4 MiB of %s", (_, piece) => {
    const body = Buffer.from(piece.repeat(Math.floor((4 * 1024 * 1024) / piece.length)));
    const startMs = performance.now();
    findNamedIds(body);
    expect(performance.now() - startMs).toBeLessThan(1_000);
  });
});
