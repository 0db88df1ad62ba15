import type { Directory } from "../store/configuration.ts";

/** Each costs a hash over the whole body. Clients of one app share its secret. */
const secretCountMax = 8;

/** The app secrets of clients that have one of these numbers or accounts, each once, at most 8. */
export function appSecretsOf(current: Directory, ids: Iterable<string>): string[] {
  const secrets = new Set<string>();
  for (const id of ids) {
    const owner = current.numbers.get(id)?.client;
    for (const { appSecret } of owner ? [owner] : (current.wabas.get(id) ?? [])) {
      if (appSecret !== null) secrets.add(appSecret);
    }
    if (secrets.size >= secretCountMax) break;
  }
  return [...secrets].slice(0, secretCountMax);
}
