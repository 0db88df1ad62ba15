import { randomFillSync } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createIdSource } from "../../server/domain/ids.ts";
import { createContactMemory } from "../../server/store/contact-memory.ts";
import {
  type ContactAsked,
  type ContactBook,
  findAndLock,
  findRemembered,
  resolveContacts,
  saveConversations,
} from "../../server/store/contacts.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";

/** Ids grow, so that who was made first has the smaller one. */
const ids = createIdSource(Date.now, randomFillSync);
const newId = () => ids.next();

let store: Store;
let clientCount = 0;
let client: { clientId: number; numberId: number };
beforeAll(async () => {
  store = await openStore();
  client = await store.addClient("contacts");
});
afterAll(() => store.close());

let userCount = 0;
/** Somebody new, asked for with all that the fields say. */
function asked(fields: Partial<ContactAsked> = {}): ContactAsked {
  userCount += 1;
  return { ...client, phone: null, bsuid: null, profileName: null, ...fields };
}
const aPhone = () => `1555${String(++userCount).padStart(7, "0")}`;
const aBsuid = () => `US.${++userCount}`;

/** One publishing transaction; `use` runs before its commit. */
async function transact<T>(
  wanted: readonly ContactAsked[],
  use: (book: ContactBook) => T | Promise<T>,
): Promise<T> {
  const connection = await store.pool.connect();
  try {
    await connection.query("BEGIN");
    const found = await findAndLock(connection, wanted);
    const book = await resolveContacts(connection, wanted, found, newId, storeNow);
    const result = await use(book);
    await connection.query("COMMIT");
    return result;
  } catch (error) {
    await connection.query("ROLLBACK");
    throw error;
  } finally {
    connection.release();
  }
}
const contactOf = (one: ContactAsked) => transact([one], (book) => ({ ...book.find(one).contact }));

describe("a contact", () => {
  test("is one for all events that name the same phone, or the same business-scoped id", async () => {
    const [phone, bsuid] = [aPhone(), aBsuid()];
    const byPhone = await contactOf(asked({ phone, profileName: "Ada" }));
    expect(await contactOf(asked({ phone }))).toMatchObject({ id: byPhone.id, profileName: "Ada" });
    const byId = await contactOf(asked({ bsuid }));
    expect(byId.id).not.toBe(byPhone.id);
    expect((await contactOf(asked({ bsuid }))).id).toBe(byId.id);
  });

  test("of a phone gets a business-scoped id once an event carries both, and the other way round", async () => {
    const [phone, bsuid] = [aPhone(), aBsuid()];
    const first = await contactOf(asked({ phone }));
    expect(await contactOf(asked({ phone, bsuid }))).toMatchObject({ id: first.id, phone, bsuid });
    expect((await contactOf(asked({ bsuid }))).id).toBe(first.id);

    const [otherPhone, otherId] = [aPhone(), aBsuid()];
    const second = await contactOf(asked({ bsuid: otherId }));
    expect(await contactOf(asked({ phone: otherPhone, bsuid: otherId }))).toMatchObject({
      id: second.id,
      phone: otherPhone,
    });
    expect((await contactOf(asked({ phone: otherPhone }))).id).toBe(second.id);
  });

  test("with the phone of another who has another business-scoped id is new: numbers are recycled", async () => {
    const [phone, formerId, nextId] = [aPhone(), aBsuid(), aBsuid()];
    const former = await contactOf(asked({ phone, bsuid: formerId }));
    const next = await contactOf(asked({ phone, bsuid: nextId }));
    expect(next).toMatchObject({ phone, bsuid: nextId, profileName: null });
    expect(next.id).not.toBe(former.id);
    expect(await contactOf(asked({ bsuid: formerId }))).toMatchObject({ id: former.id, phone: null });
    expect((await contactOf(asked({ phone }))).id).toBe(next.id);
  });

  test("changes its profile name with the newest event that has one", async () => {
    const phone = aPhone();
    await contactOf(asked({ phone, profileName: "Ada" }));
    expect((await contactOf(asked({ phone, profileName: "Ada L." }))).profileName).toBe("Ada L.");
    expect((await contactOf(asked({ phone }))).profileName).toBe("Ada L.");
  });

  test("is another one for another client, and has a conversation for each number", async () => {
    const phone = aPhone();
    const here = await contactOf(asked({ phone }));
    const elsewhere = await store.addClient(`another-${++clientCount}`);
    expect((await contactOf(asked({ phone, ...elsewhere }))).id).not.toBe(here.id);
    const second = await store.pool.query(
      `INSERT INTO phone_number (phone_number_id, client_id, version, created_at) VALUES ('second', $1, 1, now())
       RETURNING id`,
      [client.clientId],
    );
    const both = [asked({ phone }), asked({ phone, numberId: second.rows[0].id })];
    const [first, other] = await transact(both, (book) => both.map((one) => book.find(one)));
    expect(first!.contact.id).toBe(other!.contact.id);
    expect(first!.conversation.id).not.toBe(other!.conversation.id);
  });
});

test("names that a contact gives up are noted, and move with it when it becomes part of another", async () => {
  const [first, second, third] = [aPhone(), aPhone(), aPhone()];
  const [bsuid, nextId] = [aBsuid(), aBsuid()];
  const formerNames = async (id: string) => {
    const found = await store.pool.query(
      "SELECT kind || ' ' || name AS name FROM contact_former_name WHERE contact_id = $1 ORDER BY until_id, name",
      [id],
    );
    return found.rows.map(({ name }) => name);
  };
  const { id: olderId } = await contactOf(asked({ phone: third }));
  const { id } = await contactOf(asked({ phone: first, bsuid }));
  expect(await formerNames(id)).toEqual([]);
  await contactOf(asked({ phone: second, bsuid }));
  expect(await formerNames(id)).toEqual([`phone ${first}`]);
  await contactOf(asked({ phone: second, bsuid: nextId }));
  expect(await formerNames(id)).toEqual([`phone ${first}`, `phone ${second}`]);
  await contactOf(asked({ phone: third, bsuid }));
  expect(await formerNames(id)).toEqual([]);
  expect(await formerNames(olderId)).toEqual([`phone ${first}`, `phone ${second}`]);
});

test("two transactions that make one contact at the same time end with one", async () => {
  for (let round = 0; round < 20; round++) {
    const [phone, bsuid] = [aPhone(), aBsuid()];
    const names = [{ phone }, { bsuid, phone }, { phone }, { phone, bsuid }];
    const results = await Promise.allSettled(
      names.map((fields) => transact([asked(fields)], (book) => book.find(asked(fields)).contact.id)),
    );
    // Whoever lost a race in a way that cannot be resolved is repeated by the publisher.
    for (const result of results) {
      if (result.status === "rejected") expect(["23505", "40P01"]).toContain(result.reason.code);
    }
    const found = await store.pool.query("SELECT id FROM contact WHERE phone = $1 OR bsuid = $2", [
      phone,
      bsuid,
    ]);
    expect(found.rows).toHaveLength(1);
    const conversations = await store.pool.query("SELECT FROM conversation WHERE contact_id = $1", [
      found.rows[0].id,
    ]);
    expect(conversations.rowCount).toBe(1);
  }
});

test("sequence numbers have no gap and no double, however many transactions number the same conversations", async () => {
  const people = Array.from({ length: 4 }, () => asked({ phone: aPhone() }));
  const numbers = new Map<string, number[]>();
  async function publishOne(order: ContactAsked[]): Promise<void> {
    const connection = await store.pool.connect();
    try {
      await connection.query("BEGIN");
      const book = await resolveContacts(
        connection,
        order,
        await findAndLock(connection, order),
        newId,
        storeNow,
      );
      const drawn = order.map((one) => {
        const { conversation } = book.find(one);
        conversation.lastSequence += 1;
        return { conversation, sequence: conversation.lastSequence };
      });
      await saveConversations(connection, [...new Set(drawn.map(({ conversation }) => conversation))]);
      await connection.query("COMMIT");
      for (const { conversation, sequence } of drawn) {
        numbers.set(conversation.id, [...(numbers.get(conversation.id) ?? []), sequence]);
      }
    } finally {
      connection.release();
    }
  }
  // The contacts and conversations exist from here on: what follows is about their locks alone.
  await publishOne(people);
  await Promise.all(
    Array.from({ length: 60 }, (_, index) => {
      const order = [...people.slice(index % 4), ...people.slice(0, index % 4)];
      return publishOne(index % 2 === 0 ? order : [...order].reverse());
    }),
  );
  expect(numbers.size).toBe(4);
  for (const drawn of numbers.values()) {
    expect(drawn.toSorted((first, second) => first - second)).toEqual(
      Array.from({ length: 61 }, (_, n) => n + 1),
    );
  }
});

test("a batch resolves as its events would one after the other", async () => {
  const name = {
    phone: fc.option(fc.constantFrom("1", "2", "3")),
    bsuid: fc.option(fc.constantFrom("A", "B", "C")),
  };
  const fields = fc.record(
    { ...name, profileName: fc.option(fc.constantFrom("Ada", "Bob")), becomes: fc.record(name) },
    { requiredKeys: ["phone", "bsuid", "profileName"] },
  );
  const batch = fc.array(
    fields.filter(({ phone, bsuid }) => phone !== null || bsuid !== null),
    { minLength: 1, maxLength: 8 },
  );
  await fc.assert(
    fc.asyncProperty(batch, async (events) => {
      const [together, apart] = [
        await store.addClient(`together-${++clientCount}`),
        await store.addClient(`apart-${clientCount}`),
      ];
      const as = (owner: { clientId: number; numberId: number }) =>
        events.map((event) => ({ clientId: owner.clientId, numberId: owner.numberId, ...event }));
      await transact(as(together), () => undefined);
      for (const one of as(apart)) await transact([one], () => undefined);
      const contactsOf = async ({ clientId }: { clientId: number }) =>
        (
          await store.pool.query(
            "SELECT phone, bsuid, profile_name FROM contact WHERE client_id = $1 ORDER BY phone, bsuid",
            [clientId],
          )
        ).rows;
      expect(await contactsOf(together)).toEqual(await contactsOf(apart));
    }),
    { numRuns: 60 },
  );
});

describe("a contact that is remembered", () => {
  /** Asks for them with a memory of where `before` was found. */
  async function askRemembering(before: ContactAsked, change: () => Promise<unknown>, wanted: ContactAsked) {
    const memory = createContactMemory();
    await transact([before], (book) => {
      const { contact, conversation } = book.find(before);
      memory.note(before, { contactId: contact.id, conversationId: conversation.id });
    });
    await change();
    const connection = await store.pool.connect();
    try {
      await connection.query("BEGIN");
      const found = await findRemembered(connection, [wanted], memory);
      const again = await findRemembered(connection, [wanted], memory);
      const plain = await findAndLock(connection, [wanted]);
      await connection.query("ROLLBACK");
      return { found, again, plain };
    } finally {
      connection.release();
    }
  }

  test("is found by its ids, as it is now", async () => {
    const before = asked({ phone: aPhone() });
    const rename = () => contactOf({ ...before, profileName: "New" });
    const { found, plain } = await askRemembering(before, rename, before);
    expect(found).toEqual(plain);
    expect(found?.contacts).toMatchObject([{ phone: before.phone, profileName: "New" }]);
    expect(found?.conversations).toHaveLength(1);
  });

  const cases: Record<
    string,
    (before: ContactAsked) => { change: () => Promise<unknown>; wanted?: ContactAsked }
  > = {
    "it goes by another name": (before) => ({
      change: () => transact([{ ...before, becomes: { phone: null, bsuid: aBsuid() } }], () => undefined),
    }),
    "its name is another's now": (before) => ({
      change: async () => {
        const phone = aPhone();
        await contactOf({ ...before, phone });
        await transact([{ ...before, becomes: { phone: null, bsuid: aBsuid() } }], () => undefined);
        await contactOf(asked({ bsuid: before.bsuid }));
      },
    }),
    "it is gone": (before) => ({
      change: () =>
        transact([before], (book) => book.find(before)).then(async ({ contact, conversation }) => {
          await store.pool.query("DELETE FROM conversation WHERE id = $1", [conversation.id]);
          await store.pool.query("DELETE FROM contact WHERE id = $1", [contact.id]);
        }),
    }),
    "it is asked for by more than it had": (before) => ({
      change: async () => undefined,
      wanted: { ...before, phone: aPhone() },
    }),
  };

  test.each(Object.keys(cases))("is forgotten and looked for anew when %s", async (name) => {
    const before = asked({ bsuid: aBsuid() });
    const { change, wanted = before } = cases[name]!(before);
    const { found, again, plain } = await askRemembering(before, change, wanted);
    expect(found).toBeNull();
    expect(again).toEqual(plain);
  });

  test("is one of so many at most: then all are forgotten", () => {
    const memory = createContactMemory(2);
    const [first, second, third] = [1, 2, 3].map(() => asked({ phone: aPhone() }));
    const place = { contactId: "c", conversationId: "1" };
    for (const one of [first, second, second]) memory.note(one!, place);
    expect(memory.get(first!)).toEqual(place);
    memory.note(third!, place);
    expect(memory.get(third!)).toEqual(place);
    for (const one of [first, second]) expect(memory.get(one!)).toBeUndefined();
  });
});
