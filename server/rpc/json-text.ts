/**
 * How bytes become the text that JSON is read from. A parser's complaint quotes what stands around the fault, which may be
 * a secret: so a body that is no JSON, and a secret of the wrong type, are refused here first, in words of our own.
 * Protobuf takes the names in a FieldMask in camelCase only; ours may be spelled as the fields themselves may be.
 */

import { Code, ConnectError } from "@connectrpc/connect";

/** Longer bodies are events, which hold no secrets of ours: reading them twice would cost more than it hides. */
const checkedCharactersMax = 256 * 1024;

export class JsonTextDecoder extends TextDecoder {
  override decode(bytes?: Uint8Array): string {
    const text = super.decode(bytes);
    return text.length <= checkedCharactersMax ? withCamelMask(text, checkRequest(text)) : text;
  }
}

const secretTexts = [
  "signature_secret",
  "signatureSecret",
  "access_token",
  "accessToken",
  "app_secret",
  "appSecret",
];

function checkRequest(text: string): Record<string, unknown> {
  const request = parse(text);
  if (!isObject(request)) throw refuse("the request must be a JSON object");
  for (const name of secretTexts) checkType(name, request[name], "string");
  checkType("headers", request.headers, "object");
  for (const value of Object.values(request.headers ?? {})) checkType("headers", value, "string");
  return request;
}

/** The same text, unless its mask is spelled with underscores. */
function withCamelMask(text: string, request: Record<string, unknown>): string {
  const name = ["update_mask", "updateMask"].find((candidate) => Object.hasOwn(request, candidate));
  const mask = name && request[name];
  if (typeof mask !== "string" || !mask.includes("_")) return text;
  const camelMask = mask.replace(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase());
  return JSON.stringify({ ...request, [name!]: camelMask });
}

/** Says which type it should be and which it is, as the parser does, but never the value. */
function checkType(name: string, value: unknown, expected: "string" | "object"): void {
  // Null stands for a field that is left out.
  if (value === undefined || value === null) return;
  const actual = Array.isArray(value) ? `Array(${value.length})` : typeof value;
  if (actual !== expected) throw refuse(`${name}: expected ${expected}, got ${actual}`);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refuse("the request is no valid JSON");
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refuse(message: string): ConnectError {
  return new ConnectError(message, Code.InvalidArgument);
}
