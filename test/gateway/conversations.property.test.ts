import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { aChange, anEnvelope, aTextMessage, baseTimestamp, type Json } from "../helpers/whatsapp-bodies.ts";
import { openRpcGateway, type RpcGateway } from "../rpc/gateway.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway();
});
afterAll(() => gateway.close());

const contactCount = 1_000;
const messagesEach = 20;
const bodyItems = 250;

interface Item {
  id: string;
  second: number;
  phone: string | null;
  bsuid: string | null;
  /** Set for a notice that the user has this number from now on. */
  newPhone?: string;
}

interface Person {
  phone: string | null;
  bsuid: string | null;
  messages: string[];
  /** How many items had come when the oldest of those who became this one was first seen. */
  age: number;
}

/** Who is who, as the contract's few sentences say it, one item after the other. */
function modelOf(arrived: readonly Item[]): Person[] {
  let people: Person[] = [];
  const seen = new Set<string>();
  const join = (kept: Person, other: Person) => {
    kept.messages.push(...other.messages);
    kept.age = Math.min(kept.age, other.age);
    people = people.filter((one) => one !== other);
  };
  for (const [age, { id, phone, bsuid, newPhone }] of arrived.entries()) {
    if (seen.has(id)) continue;
    seen.add(id);
    const known = people.find((one) => bsuid !== null && one.bsuid === bsuid);
    const holder = people.find((one) => phone !== null && one.phone === phone);
    const isSame = holder && (bsuid === null || holder.bsuid === null || holder.bsuid === bsuid);
    if (newPhone !== undefined) {
      const person = known ?? (isSame ? holder : undefined);
      if (!person) continue;
      const other = people.find((one) => one !== person && one.phone === newPhone);
      if (other && other.bsuid === null) join(person, other);
      else if (other) other.phone = null;
      if (person.phone !== newPhone) person.bsuid = null;
      person.phone = newPhone;
      continue;
    }
    const found = known ?? (isSame ? holder : undefined);
    const person = found ?? { phone: null, bsuid: null, messages: [], age };
    if (!found) people.push(person);
    if (holder && holder !== person) {
      if (isSame) join(person, holder);
      else holder.phone = null;
    }
    person.phone = phone ?? person.phone;
    person.bsuid = bsuid ?? person.bsuid;
    person.messages.push(id);
  }
  return people;
}

function randomItems(pick: (limit: number) => number): Item[] {
  const items: Item[] = [];
  for (let person = 0; person < contactCount; person++) {
    const phones = [`1555${1_000_000 + person}`, `1666${1_000_000 + person}`];
    const bsuid = `US.${5_000_000 + person}`;
    // Some are known by their number only, some by their id only, some by either or both; some change their number.
    const kind = pick(4);
    const change = pick(10) === 0 ? pick(messagesEach) : messagesEach;
    for (let index = 0; index < messagesEach; index++) {
      const phone = phones[index < change ? 0 : 1]!;
      const way = kind === 3 ? pick(3) : kind;
      const item = { id: `wamid.${person}.${index}`, second: pick(5_000), phone, bsuid };
      if (index === change && pick(2) === 0) {
        items.push({
          ...item,
          id: `${item.id}.notice`,
          phone: phones[0]!,
          bsuid: null,
          newPhone: phones[1]!,
        });
      }
      items.push({ ...item, phone: way === 1 ? null : phone, bsuid: way === 0 ? null : bsuid });
    }
  }
  const repeated = items.filter(() => pick(5) === 0);
  const all = [...items, ...repeated];
  for (let index = all.length - 1; index > 0; index--) {
    const other = pick(index + 1);
    [all[index], all[other]] = [all[other]!, all[index]!];
  }
  return all;
}

function toMessage({ id, second, phone, bsuid, newPhone }: Item): Json {
  const sender = { from: phone ?? undefined, from_user_id: bsuid ?? undefined };
  const message = aTextMessage({ id, body: id, timestamp: String(baseTimestamp + second), ...sender });
  if (newPhone === undefined) return message;
  const { text: _, ...rest } = message;
  return { ...rest, type: "system", system: { type: "user_changed_number", wa_id: newPhone, body: "…" } };
}

test("1,000 contacts with 20 messages each, out of order and repeated, end in the conversations of a simple model", async () => {
  const [seed] = fc.sample(fc.integer({ min: 1, max: 2 ** 31 - 1 }), 1);
  let state = seed!;
  const pick = (limit: number) => {
    // xorshift32: one seed, told on failure, makes the whole run.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
  const all = randomItems(pick);
  const arrived: Item[] = [];
  for (let start = 0; start < all.length; start += bodyItems * 8) {
    const bodies: string[] = [];
    for (let from = start; from < Math.min(start + bodyItems * 8, all.length); from += bodyItems) {
      const items = all.slice(from, from + bodyItems);
      arrived.push(...items.toSorted((first, second) => first.second - second.second));
      bodies.push(JSON.stringify(anEnvelope([aChange({ messages: items.map(toMessage) })])));
    }
    const { status, text } = await gateway.call("EventService/PublishEvents", { bodies });
    expect(status, text.slice(0, 500)).toBe(200);
  }

  const expected = modelOf(arrived);
  const order = new Map<string, number>();
  for (const [index, { id }] of arrived.entries()) if (!order.has(id)) order.set(id, index);
  const { rows } = await gateway.database.pool.query<{ phone: string; bsuid: string; messages: string[] }>(
    `SELECT c.phone, c.bsuid, array_agg(m.wamid ORDER BY m.sequence) AS messages
     FROM contact c JOIN conversation v ON v.contact_id = c.id AND v.merged_into IS NULL
     JOIN message m ON m.conversation_id = v.id GROUP BY c.id ORDER BY c.id`,
  );
  const nameOf = ({ phone, bsuid }: { phone: string | null; bsuid: string | null }) => `${phone} ${bsuid}`;
  const found = new Map(rows.map((row) => [nameOf(row), row.messages]));
  expect(found.size, `seed ${seed}`).toBe(expected.length);
  for (const person of expected) {
    const inOrder = person.messages.toSorted((first, second) => order.get(first)! - order.get(second)!);
    expect(found.get(nameOf(person)), `seed ${seed}, ${nameOf(person)}`).toEqual(inOrder);
  }
  // UUIDs grow with the time at which they are given: whoever is older by the model has the smaller one.
  const byAge = expected.toSorted((first, second) => first.age - second.age);
  expect(rows.map(nameOf), `seed ${seed}`).toEqual(byAge.map(nameOf));
}, 60_000);
