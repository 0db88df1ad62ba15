import { textOf } from "./json.ts";

/** E.164 allows 15 digits; ids of groups are longer. */
const digitsPattern = /^\d{1,15}$/;

/** Digits of a phone number, whatever blanks, dashes and `+` it was written with; null if it is none. */
export function digitsOfPhone(value: unknown): string | null {
  const text = textOf(value);
  if (text === null || text.length > 40) return null;
  const digits = text.replace(/[\s+\-().]/g, "");
  return digitsPattern.test(digits) ? digits : null;
}

/**
 * A phone number in the form of E.164, such as `+15550001111`.
 *
 * @param value  digits as the input has them (`event.user.phone`, `event.businessPhone`), or a number as it stands in
 *   an item, with or without `+`, blanks and dashes
 * @returns null for null, and for what is no phone number (a business-scoped id, a group's id)
 */
export function toE164(value: unknown): string | null {
  const digits = digitsOfPhone(value);
  return digits === null ? null : `+${digits}`;
}
