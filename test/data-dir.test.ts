import { spawnSync } from "node:child_process";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadKeys } from "../server/data-dir.ts";

const none = { masterKeys: [], operatorKeys: [] };
let parent: string;
let dataDir: string;

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "posthorn-keys-"));
  dataDir = join(parent, "nested", "data");
});
afterEach(() => rm(parent, { recursive: true }));

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777;
}

describe("keys that the gateway makes for itself", () => {
  test("are made at the first start and the same ever after", async () => {
    const first = await loadKeys(none, dataDir);
    const second = await loadKeys(none, dataDir);

    expect(first.masterKeys).toHaveLength(1);
    expect(first.masterKeys[0]).toHaveLength(32);
    expect(first.operatorKeys).toEqual([expect.stringMatching(/^phk_[A-Za-z0-9_-]{43}$/)]);
    expect(first.newOperatorKey).toBe(first.operatorKeys[0]);
    expect(second).toEqual({ ...first, newOperatorKey: null });
  });

  test("are as random as their source", async () => {
    const keys = await loadKeys(none, dataDir, (byteCount) => new Uint8Array(byteCount).fill(255));
    expect(keys.masterKeys[0]).toEqual(new Uint8Array(32).fill(255));
    expect(keys.operatorKeys).toEqual([`phk_${"_".repeat(42)}8`]);
  });

  test("lie in files for this user alone, in a directory that others cannot list", async () => {
    await loadKeys(none, dataDir);
    expect((await readdir(dataDir)).sort()).toEqual(["master.key", "operator.key"]);
    for (const name of await readdir(dataDir)) expect(await modeOf(join(dataDir, name))).toBe(0o600);
    // Root's PostgreSQL user has to pass through.
    expect(await modeOf(dataDir)).toBe(process.getuid?.() === 0 ? 0o711 : 0o700);
  });

  test("lose rights that somebody gave to others", async () => {
    await loadKeys(none, dataDir);
    await chmod(join(dataDir, "operator.key"), 0o644);
    await loadKeys(none, dataDir);
    expect(await modeOf(join(dataDir, "operator.key"))).toBe(0o600);
  });

  test("are one for all who start at once, and one alone is told that it is new", async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => loadKeys(none, dataDir)));
    expect(new Set(all.map((keys) => keys.operatorKeys[0])).size).toBe(1);
    expect(new Set(all.map((keys) => Buffer.from(keys.masterKeys[0]!).toString("hex"))).size).toBe(1);
    expect(all.filter((keys) => keys.newOperatorKey !== null)).toHaveLength(1);
    expect((await readdir(dataDir)).sort()).toEqual(["master.key", "operator.key"]);
  });

  test("are those of another process that made them", async () => {
    const module = new URL("../server/data-dir.ts", import.meta.url).href;
    const script = `
      const { loadKeys } = await import(${JSON.stringify(module)});
      const keys = await loadKeys({ masterKeys: [], operatorKeys: [] }, ${JSON.stringify(dataDir)});
      process.stdout.write(keys.operatorKeys[0]);`;
    const other = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    const keys = await loadKeys(none, dataDir);
    expect(keys.operatorKeys).toEqual([other.stdout]);
    expect(keys.newOperatorKey).toBeNull();
  });

  test("are not made where keys are configured", async () => {
    const configured = { masterKeys: [new Uint8Array(32)], operatorKeys: ["x".repeat(24)] };
    expect(await loadKeys(configured, dataDir)).toEqual({ ...configured, newOperatorKey: null });
    await expect(stat(dataDir)).rejects.toThrow("ENOENT");
  });

  test.each(["master.key", "operator.key"])("that are damaged stop the start, naming %s", async (name) => {
    await loadKeys(none, dataDir);
    await writeFile(join(dataDir, name), "rubbish");
    await expect(loadKeys(none, dataDir)).rejects.toThrow(join(dataDir, name));
    expect(await readFile(join(dataDir, name), "utf8")).toBe("rubbish");
  });

  test("a directory that cannot be made is told with the setting", async () => {
    await writeFile(join(parent, "file"), "");
    await expect(loadKeys(none, join(parent, "file", "data"))).rejects.toThrow("POSTHORN_DATA_DIR");
  });
});
