/** Who PostgreSQL runs as. It refuses root, so root hands it to a user without rights. */

import { stat } from "node:fs/promises";
import { EmbeddedPostgresError } from "./error.ts";
import { run } from "./run.ts";

export interface ServerUser {
  name: string;
  uid: number;
  gid: number;
}

const probeTimeoutMs = 10_000;

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/**
 * The user for a new data directory: null (the present one) unless this is root; then `postgres` if the machine has
 * such a user, else `nobody`. Makes no users: that would change the machine.
 */
export async function chooseServerUser(): Promise<ServerUser | null> {
  if (!isRoot()) return null;
  for (const name of ["postgres", "nobody"]) {
    const uid = await askId("-u", name);
    const gid = await askId("-g", name);
    if (uid && gid) return { name, uid, gid };
  }
  throw new EmbeddedPostgresError(
    "process",
    "PostgreSQL does not run as root, and this machine has neither a user `postgres` nor `nobody`. " +
      "Start the gateway as a normal user, or set DATABASE_URL.",
  );
}

/**
 * The user for a data directory that exists: its owner.
 *
 * @throws EmbeddedPostgresError `data_directory` if that is root, or if we are neither root nor the owner
 */
export async function ownerAsServerUser(dataDirectory: string): Promise<ServerUser | null> {
  const present = process.getuid?.();
  if (present === undefined) return null;
  const { uid, gid } = await stat(dataDirectory);
  if (uid === 0) {
    throw new EmbeddedPostgresError(
      "data_directory",
      `${dataDirectory} belongs to root, as whom PostgreSQL does not run. ` +
        "Give it to the user it had before (chown -R), or move it away to begin with an empty database.",
    );
  }
  if (present === uid) return null;
  if (present === 0) return { name: `user ${uid}`, uid, gid };
  throw new EmbeddedPostgresError(
    "data_directory",
    `${dataDirectory} belongs to user ${uid}, but the gateway runs as user ${present}. Start it as that user or as ` +
      "root, give the directory to this user (chown -R), or set POSTHORN_DATA_DIR to another one.",
  );
}

/** True if `user` can read and enter (or execute) `path`, with all the directories above it. */
export async function canReach(user: ServerUser, path: string): Promise<boolean> {
  const script = 'test -r "$1" && test -x "$1"';
  const probe = await run("/bin/sh", ["-c", script, "sh", path], { user, timeoutMs: probeTimeoutMs });
  return probe.exitCode === 0;
}

/** True if `user` can get through `directory` to what lies in it. */
export async function canEnter(user: ServerUser, directory: string): Promise<boolean> {
  const probe = await run("/bin/sh", ["-c", 'test -x "$1"', "sh", directory], {
    user,
    timeoutMs: probeTimeoutMs,
  });
  return probe.exitCode === 0;
}

async function askId(option: "-u" | "-g", name: string): Promise<number | null> {
  const answer = await run("id", [option, name], { user: null, timeoutMs: probeTimeoutMs });
  return answer.exitCode === 0 ? Number(answer.output) : null;
}
