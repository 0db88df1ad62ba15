import { textOf } from "./json.ts";

/** E.164 allows 15 digits; ids of groups are longer. */
const digitsPattern = /^\d{1,15}$/;

/** Digits of a phone number, whatever blanks, dashes and `+` it was written with; null if it is none. */
export function phoneOf(value: unknown): string | null {
  const text = textOf(value);
  if (text === null || text.length > 40) return null;
  const digits = text.replace(/[\s+\-().]/g, "");
  return digitsPattern.test(digits) ? digits : null;
}
