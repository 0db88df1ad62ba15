import type { EntityManager } from "@mikro-orm/postgresql";
import { timeOfId } from "../domain/ids.ts";
import { plainArray, textArray } from "./array-literals.ts";
import type { LoggedName } from "./contact-names.ts";
import { erasedItem } from "./events.ts";
import type { Database } from "./orm.ts";

/** Keeps a body that was validly signed and made no sense, exactly as it came. */
export async function keepMalformed(
  database: Database,
  body: Uint8Array,
  reason: string,
  now: Date,
): Promise<void> {
  await database.pool.query({
    name: "keep-malformed",
    text: "INSERT INTO malformed_body (received_at, reason, body) VALUES ($1, $2, $3)",
    values: [now, reason, body],
  });
}

/** A number that is shorter stands in too many bodies by chance. */
const phoneDigitsMin = 7;
const bsuidLengthMin = 8;

/**
 * Empties kept bodies that name a contact. They are nobody's, and cannot be read as what they were meant to be: so a name
 * counts wherever it stands as a whole, the profile name too, in bodies that name no number or account of another tenant.
 */
export async function eraseMalformed(
  em: EntityManager,
  tenantId: number,
  names: readonly LoggedName[],
  profileName: string | null,
): Promise<void> {
  const sought = [...names.flatMap(soughtOf), ...(profileName === null ? [] : soughtNames(profileName))];
  await em.execute(eraseText, [
    erasedItem,
    erasedItem,
    textArray(sought.map(({ text }) => text)),
    textArray(sought.map(({ pattern }) => pattern)),
    plainArray(sought.map(({ name }) => timeOf(name?.fromId))),
    plainArray(sought.map(({ name }) => timeOf(name?.untilId))),
    tenantId,
    tenantId,
  ]);
}

interface Sought {
  text: string;
  /** What must match as well, in PostgreSQL's `escape` form of the bytes. */
  pattern: string | null;
  name: LoggedName | null;
}

function soughtOf(name: LoggedName): Sought[] {
  const text = name.name;
  if (name.kind === "phone") {
    return text.length < phoneDigitsMin ? [] : [{ text, pattern: `(^|[^0-9])${text}([^0-9]|$)`, name }];
  }
  return text.length < bsuidLengthMin ? [] : [{ text: JSON.stringify(text), pattern: null, name }];
}

/** As WhatsApp writes it, and as others do. */
function soughtNames(profileName: string): Sought[] {
  const json = JSON.stringify(profileName);
  const escapeUnit = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const forms = new Set([json, json.replace(/[\u0080-\uffff]/g, escapeUnit)]);
  return [...forms].flatMap((form) =>
    [`"name":${form}`, `"name": ${form}`].map((text) => ({ text, pattern: null, name: null })),
  );
}

function timeOf(id: string | null | undefined): number | null {
  return id ? timeOfId(id) : null;
}

/** True for a body `b` that holds an id of a number or account of a tenant that compares so. */
const namesTenant = (comparison: string) => `EXISTS (
  SELECT FROM client c
  CROSS JOIN LATERAL (
    SELECT phone_number_id AS id FROM phone_number WHERE client_id = c.id
    UNION ALL SELECT waba_id FROM client_waba WHERE client_id = c.id) AS owned
  WHERE c.tenant_id ${comparison} ? AND position(convert_to('"' || owned.id || '"', 'UTF8') IN b.body) > 0)`;

/** CASE keeps the order: only bodies that name the contact are searched for numbers and accounts. */
const eraseText = `
  UPDATE malformed_body b SET body = convert_to(?, 'UTF8')
  WHERE b.body <> convert_to(?, 'UTF8') AND CASE WHEN EXISTS (
      SELECT FROM unnest(?::text[], ?::text[], ?::float8[], ?::float8[]) AS s(sought, pattern, from_ms, until_ms)
      WHERE position(convert_to(s.sought, 'UTF8') IN b.body) > 0
        AND (s.pattern IS NULL OR encode(b.body, 'escape') ~ s.pattern)
        AND (s.from_ms IS NULL OR b.received_at >= to_timestamp(s.from_ms / 1000))
        AND (s.until_ms IS NULL OR b.received_at < to_timestamp(s.until_ms / 1000)))
    THEN NOT ${namesTenant("<>")} OR ${namesTenant("=")} ELSE false END`;
