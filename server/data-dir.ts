/**
 * Keys that a gateway in development makes for itself, kept in the data directory. Processes that start together on
 * one directory agree on one key: a key is written in full beside its place and put there by a link, which fails if
 * another process was first; then everybody reads what is there.
 */

import { randomBytes } from "node:crypto";
import { chmod, link, mkdir, open, readFile, unlink } from "node:fs/promises";
import { join } from "node:path";

export interface Keys {
  /** 32 bytes each; the first encrypts, all decrypt. */
  masterKeys: Uint8Array[];
  operatorKeys: string[];
  /** The operator key if this very call made it, for printing it once; else null. */
  newOperatorKey: string | null;
}

/** Fills a number of bytes at random. */
export type RandomSource = (byteCount: number) => Uint8Array;

/**
 * The configured keys, and where none are, those of the data directory, made at the first call.
 * Called again, or by another process, it gives the same ones.
 *
 * @throws Error naming the file that cannot be used, and what to do
 */
export async function loadKeys(
  configured: { masterKeys: readonly Uint8Array[]; operatorKeys: readonly string[] },
  dataDir: string,
  random: RandomSource = randomBytes,
): Promise<Keys> {
  const keys: Keys = {
    masterKeys: [...configured.masterKeys],
    operatorKeys: [...configured.operatorKeys],
    newOperatorKey: null,
  };
  if (keys.masterKeys.length > 0 && keys.operatorKeys.length > 0) return keys;
  await makeDataDir(dataDir);
  if (keys.masterKeys.length === 0) {
    const { text } = await keepKey(join(dataDir, "master.key"), masterKeyPattern, () =>
      Buffer.from(random(32)).toString("base64"),
    );
    keys.masterKeys = [new Uint8Array(Buffer.from(text, "base64"))];
  }
  if (keys.operatorKeys.length === 0) {
    const { text, isNew } = await keepKey(join(dataDir, "operator.key"), operatorKeyPattern, () => {
      return `phk_${Buffer.from(random(32)).toString("base64url")}`;
    });
    keys.operatorKeys = [text];
    if (isNew) keys.newOperatorKey = text;
  }
  return keys;
}

/** Base64 of 32 bytes. */
const masterKeyPattern = /^[A-Za-z0-9+/]{43}=$/;
const operatorKeyPattern = /^[\x21-\x7e]{24,}$/;

/**
 * Makes the directory if it is not there. For this user alone; where that is root, others may pass through it, since
 * the embedded PostgreSQL refuses to run as root and has its files below. What lies in it has modes of its own.
 */
export async function makeDataDir(path: string): Promise<void> {
  const mode = process.getuid?.() === 0 ? 0o711 : 0o700;
  try {
    await mkdir(path, { recursive: true, mode });
  } catch (cause) {
    throw new Error(
      `The data directory ${path} cannot be made: ${(cause as Error).message}. Set POSTHORN_DATA_DIR to another.`,
      { cause },
    );
  }
}

async function keepKey(
  path: string,
  pattern: RegExp,
  make: () => string,
): Promise<{ text: string; isNew: boolean }> {
  const found = await readKey(path, pattern);
  if (found !== null) return { text: found, isNew: false };
  const made = make();
  const draft = `${path}.${randomBytes(6).toString("hex")}`;
  const file = await open(draft, "wx", 0o600);
  try {
    await file.writeFile(`${made}\n`);
    await file.sync();
    await file.close();
    await link(draft, path);
    return { text: made, isNew: true };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    await file.close();
    await unlink(draft);
  }
  const others = await readKey(path, pattern);
  if (others === null) throw new Error(`${path} was there and is gone: start again.`);
  return { text: others, isNew: false };
}

/** The key in the file, whose mode is put right; null if there is no file. */
async function readKey(path: string, pattern: RegExp): Promise<string | null> {
  let text: string;
  try {
    text = (await readFile(path, "utf8")).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  if (!pattern.test(text)) {
    throw new Error(`${path} holds no key. Restore it from a backup, or remove it to get a new key.`);
  }
  await chmod(path, 0o600);
  return text;
}
