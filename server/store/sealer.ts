/**
 * Encryption of secrets at rest: AES-256-GCM. A sealed blob is
 * `version (1 byte) ‖ key id (4 bytes) ‖ nonce (12) ‖ tag (16) ‖ ciphertext`; the key id says which of the
 * configured keys opens it, and the purpose is authenticated with it, so that a blob moved to another column
 * does not open there.
 */

import { createCipheriv, createDecipheriv, hash, randomBytes } from "node:crypto";

const formatVersion = 1;
const headBytes = 1 + 4 + 12 + 16;

export interface Sealer {
  /** @param purpose  what the text is for, such as `webhook_secret`; the same word opens it again */
  seal(text: string, purpose: string): Buffer;
  /** @throws Error if no configured key opens the blob, or it was altered; the message holds no secret */
  open(blob: Uint8Array, purpose: string): string;
}

/** @param masterKeys  32 bytes each; the first encrypts, all decrypt */
export function createSealer(masterKeys: readonly Uint8Array[]): Sealer {
  const keys = masterKeys.map((key) => ({ key, id: keyId(key) }));
  const first = keys[0];
  if (!first) throw new Error("at least one master key is needed");
  return {
    seal(text, purpose) {
      const nonce = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", first.key, nonce);
      cipher.setAAD(Buffer.from(purpose));
      const ciphertext = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
      return Buffer.concat([Buffer.of(formatVersion), first.id, nonce, cipher.getAuthTag(), ciphertext]);
    },
    open(blob, purpose) {
      const bytes = Buffer.from(blob.buffer, blob.byteOffset, blob.byteLength);
      if (bytes.length < headBytes || bytes[0] !== formatVersion) throw new Error("not a sealed blob");
      const id = bytes.subarray(1, 5);
      const found = keys.find((candidate) => candidate.id.equals(id));
      if (!found) {
        throw new Error(
          `sealed with master key ${id.toString("hex")}, which POSTHORN_MASTER_KEY does not hold: add that key behind the first one`,
        );
      }
      const decipher = createDecipheriv("aes-256-gcm", found.key, bytes.subarray(5, 17));
      decipher.setAAD(Buffer.from(purpose));
      decipher.setAuthTag(bytes.subarray(17, 33));
      return Buffer.concat([decipher.update(bytes.subarray(33)), decipher.final()]).toString("utf8");
    },
  };
}

/** Where the key id stands in a blob, for SQL, which counts from 1. */
export const keyIdPlace = { from: 2, length: 4 } as const;

/** Tells keys apart without telling anything about them: 4 bytes. */
export function keyId(key: Uint8Array): Buffer {
  if (key.length !== 32) throw new Error("a master key has 32 bytes");
  return Buffer.from(hash("sha256", key, "hex").slice(0, 8), "hex");
}
