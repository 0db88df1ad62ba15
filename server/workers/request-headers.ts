import { isHeaderName, isReservedHeader } from "../domain/request-headers.ts";

export interface HeaderSources {
  /** Set by the gateway: they win over all others. */
  own: Record<string, string>;
  /** Of the webhook: they win over the transformer's. */
  webhook: Record<string, string>;
  transformer: Record<string, string>;
}

/**
 * Puts the headers of one request together, as names and values in turn. Whatever a source asked for, the result is
 * valid HTTP: names that cannot be sent are left out, values lose their control characters.
 */
export function assembleHeaders({ own, webhook, transformer }: HeaderSources): string[] {
  const list: string[] = [];
  for (const name in own) list.push(name, own[name]!);
  const taken = new Set<string>();
  for (const extra of [webhook, transformer]) {
    for (const name in extra) {
      const lowerName = name.toLowerCase();
      if (taken.has(lowerName) || !isHeaderName(name) || isReservedHeader(name)) continue;
      taken.add(lowerName);
      list.push(name, cleanValue(extra[name]!));
    }
  }
  return list;
}

/** Headers are bytes; undici writes each character as one. Text beyond ASCII goes out as UTF-8. */
function cleanValue(value: string): string {
  if (/^[\t\x20-\x7e]*$/.test(value)) return value;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is taken out
  return Buffer.from(value.replace(/[\x00-\x08\x0a-\x1f\x7f]/g, ""), "utf8").toString("latin1");
}
