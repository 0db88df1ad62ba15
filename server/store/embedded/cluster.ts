/**
 * The files of one embedded PostgreSQL:
 *
 *   <dataDir>/postgres/       as root a link to <stateDir>/cluster-<random>, if the server's user cannot reach dataDir
 *     data/                   PostgreSQL's own, with `server.log`
 *     password                of the role `posthorn`, mode 0600
 *     posthorn.conf  port     written at every start
 *
 * They are made under another name and moved here when complete, so that a crash in the middle leaves nothing that
 * looks finished, and of two processes that make them at once one wins and the other uses what the winner made.
 */

import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import {
  appendFile,
  chmod,
  chown,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { join, resolve } from "node:path";
import { type Binaries, makeReachable, makeStateDir } from "./binaries.ts";
import { diskFullHint, EmbeddedPostgresError, explainFileErrors } from "./error.ts";
import { run } from "./run.ts";
import { canEnter, chooseServerUser, isRoot, ownerAsServerUser, type ServerUser } from "./server-user.ts";
import { settingsFile } from "./settings.ts";

export interface Cluster {
  /** Directory of all that is listed above, links resolved. */
  homeDir: string;
  /** PostgreSQL's own data directory in it. */
  pgDataDir: string;
  logFile: string;
  /** True if all this lies in root's state directory rather than in the gateway's data directory. */
  isElsewhere: boolean;
  password: string;
  /** Null = the present user. */
  user: ServerUser | null;
  /** Programs that this user can run. */
  binaries: Binaries;
}

const initdbTimeoutMs = 120_000;
const abandonedAfterMs = 3_600_000;

/**
 * Opens the files in `dataDir`, and makes them at the first start.
 *
 * @param stateDir  where root puts what its PostgreSQL user could not reach in `dataDir`
 * @throws EmbeddedPostgresError
 */
export async function prepareCluster(
  dataDir: string,
  stateDir: string,
  binaries: Binaries,
): Promise<Cluster> {
  const entry = join(resolve(dataDir), "postgres");
  await explainFileErrors(resolve(dataDir), async () => {
    // Others may pass through a directory that root makes, as the server's user must, but not look around in it.
    await mkdir(resolve(dataDir), { recursive: true, mode: isRoot() ? 0o711 : 0o700 });
    if (!(await isPresent(entry))) await createCluster(entry, resolve(dataDir), stateDir, binaries);
  });
  return openCluster(entry, stateDir, binaries);
}

async function openCluster(entry: string, stateDir: string, binaries: Binaries): Promise<Cluster> {
  if (!existsSync(entry)) {
    const message = `${entry} is a link to nothing. Bring back what it points to, or remove it to begin anew.`;
    throw new EmbeddedPostgresError("data_directory", message);
  }
  const homeDir = await explainFileErrors(entry, () => realpath(entry));
  const pgDataDir = join(homeDir, "data");
  await refuseOtherVersion(pgDataDir, binaries.majorVersion);
  const user = await ownerAsServerUser(pgDataDir);
  if (user !== null && !(await canEnter(user, pgDataDir))) {
    throw new EmbeddedPostgresError(
      "data_directory",
      `PostgreSQL runs as \`${user.name}\`, who cannot enter ${pgDataDir}. Allow passing through the directories ` +
        `above it (chmod a+x), or set POSTHORN_DATA_DIR to a directory below /var/lib or /srv and move the data there.`,
    );
  }
  return {
    homeDir,
    pgDataDir,
    logFile: join(pgDataDir, "server.log"),
    isElsewhere: (await lstat(entry)).isSymbolicLink(),
    password: await readPassword(join(homeDir, "password")),
    user,
    binaries: await makeReachable(binaries, user, stateDir),
  };
}

async function createCluster(entry: string, dataDir: string, stateDir: string, binaries: Binaries) {
  const user = await chooseServerUser();
  const usable = await makeReachable(binaries, user, stateDir);
  const isInPlace = user === null || (await canEnter(user, dataDir));
  const suffix = randomBytes(6).toString("hex");
  if (!isInPlace) await makeStateDir(stateDir);
  const draft = isInPlace ? `${entry}.new-${suffix}` : join(stateDir, `cluster-${suffix}`);
  await removeAbandoned(dataDir);
  try {
    await fillCluster(draft, usable, user);
    if (isInPlace) await rename(draft, entry);
    else await symlink(draft, entry);
    await syncDirectory(dataDir);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    if (!(await isPresent(entry))) throw error;
  }
}

async function fillCluster(directory: string, binaries: Binaries, user: ServerUser | null): Promise<void> {
  const pgDataDir = join(directory, "data");
  const passwordFile = join(directory, "password");
  await mkdir(directory, { mode: 0o700 });
  await mkdir(pgDataDir, { mode: 0o700 });
  await writeFile(passwordFile, randomBytes(32).toString("base64url"), { mode: 0o600, flush: true });
  if (user !== null) {
    await chmod(directory, 0o711);
    await chown(pgDataDir, user.uid, user.gid);
    await chown(passwordFile, user.uid, user.gid); // For initdb, which reads it; root's again below.
  }
  const args = ["-D", pgDataDir, "-U", "posthorn", "-A", "scram-sha-256", `--pwfile=${passwordFile}`];
  // PostgreSQL's own C.UTF-8 sorts alike on every machine, whatever its C library.
  args.push("-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8");
  args.push("--no-instructions");
  const made = await run(binaries.initdb, args, { user, timeoutMs: initdbTimeoutMs });
  if (made.exitCode !== 0) {
    const end = made.signal ?? `exit code ${made.exitCode}`;
    throw new EmbeddedPostgresError(
      "process",
      `PostgreSQL's initdb failed (${end}).${diskFullHint(made.output)}\n${made.output.slice(-2_000)}`,
    );
  }
  if (user !== null) await chown(passwordFile, 0, 0);
  await appendFile(join(pgDataDir, "postgresql.conf"), `include_if_exists = '../${settingsFile}'\n`, {
    flush: true,
  });
}

async function refuseOtherVersion(pgDataDir: string, majorVersion: number): Promise<void> {
  const found = await explainFileErrors(pgDataDir, () => readIfPresent(join(pgDataDir, "PG_VERSION")));
  if (found === null) {
    const message = `${pgDataDir} holds no PostgreSQL data (PG_VERSION is missing). Restore it from a backup, or move it away to begin with an empty database.`;
    throw new EmbeddedPostgresError("data_directory", message);
  }
  if (Number(found) === majorVersion) return;
  throw new EmbeddedPostgresError(
    "data_directory",
    `${pgDataDir} was made by PostgreSQL ${found.trim()}; this version of the gateway brings ${majorVersion}. ` +
      `Run it with a PostgreSQL ${found.trim()} and DATABASE_URL, carry the data over with pg_dump, or move the directory ` +
      "away to begin with an empty database.",
  );
}

async function readPassword(file: string): Promise<string> {
  const password = await explainFileErrors(file, () => readIfPresent(file));
  if (password !== null) return password.trim();
  const message = `${file} is missing: without it nobody can log in to the database beside it. Restore it from a backup.`;
  throw new EmbeddedPostgresError("data_directory", message);
}

/** Drafts of processes that were killed. A young one may be another process at work. */
async function removeAbandoned(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (!name.startsWith("postgres.new-")) continue;
    const path = join(dataDir, name);
    const found = await stat(path).catch(() => null);
    if (found !== null && Date.now() - found.mtimeMs > abandonedAfterMs) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

async function isPresent(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

async function readIfPresent(file: string): Promise<string | null> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** The new name outlives a loss of power. Windows has no such call for directories. */
async function syncDirectory(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const directory = await open(path, "r");
  await directory.sync().finally(() => directory.close());
}
