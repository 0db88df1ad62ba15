/** Where a watcher of attempts stands, as the text that it gets with each message and hands in to go on from there. */

/**
 * A watcher knows what snapshot `since` of the database shows, and of what else `upTo` shows (null = whatever shows now)
 * the attempts up to the place `index` of transaction `xid`.
 */
export interface WatchPosition {
  since: string;
  upTo: string | null;
  xid: string;
  index: number;
}

const tokenVersion = 1;
const xidMax = 2n ** 64n - 1n;
const snapshotPattern = /^\d{1,20}:\d{1,20}:(\d{1,20}(,\d{1,20})*)?$/;

/** @param givenAt  when the watcher got it: positions are good for a while only */
export function formatPosition(position: WatchPosition, givenAt: Date): string {
  const { since, upTo, xid, index } = position;
  const parts = [tokenVersion, givenAt.getTime(), since, upTo, xid, index];
  return Buffer.from(JSON.stringify(parts)).toString("base64url");
}

/** Null for a text that is no position. */
export function parsePosition(text: string): { position: WatchPosition; givenAt: Date } | null {
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
  } catch {
    return null;
  }
  if (!Array.isArray(parts) || parts.length !== 6) return null;
  const [version, givenMs, since, upTo, xid, index] = parts as unknown[];
  const isFit =
    version === tokenVersion &&
    isCount(givenMs) &&
    isSnapshot(since) &&
    (upTo === null || isSnapshot(upTo)) &&
    typeof xid === "string" &&
    /^\d{1,19}$/.test(xid) &&
    isCount(index);
  return isFit ? { position: { since, upTo, xid, index }, givenAt: new Date(givenMs) } : null;
}

/** As PostgreSQL reads it: first, end, and those in between that are open, in their order. */
function isSnapshot(value: unknown): value is string {
  if (typeof value !== "string" || !snapshotPattern.test(value)) return false;
  const [first, end, open] = value.split(":") as [string, string, string];
  const bounds = [BigInt(first), BigInt(end)] as const;
  if (bounds[0] === 0n || bounds[0] > bounds[1] || bounds[1] > xidMax) return false;
  const xids = open === "" ? [] : open.split(",").map(BigInt);
  return xids.every(
    (xid, index) => xid >= bounds[0] && xid < bounds[1] && (index === 0 || xid > xids[index - 1]!),
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
