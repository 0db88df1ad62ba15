/** Certificates and keys that settings name. */

import { readFile } from "node:fs/promises";

/**
 * @param setting  the variable that named the file, for the error
 * @throws Error naming the setting, if the file cannot be read or holds no PEM
 */
export async function readPemFile(setting: string, path: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new Error(`${setting} names a file that cannot be read: ${(cause as Error).message}.`, { cause });
  }
  if (!/^-----BEGIN [A-Z0-9 ]+-----$/m.test(text)) {
    throw new Error(`${setting} names ${path}, which holds nothing in PEM form.`);
  }
  return text;
}
