import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const main = fileURLToPath(new URL("../server/main.ts", import.meta.url));
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "posthorn-main-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Runs the process entry in an empty directory, with no environment but `env`. */
function run(args: string[], env: Record<string, string> = {}) {
  return spawnSync(process.execPath, [main, ...args], {
    cwd: directory,
    env,
    encoding: "utf8",
    timeout: 15_000,
  });
}

describe("the process entry", () => {
  test("--help lists the settings and starts nothing, whatever the settings are", () => {
    const { status, stdout, stderr } = run(["--help"], { PORT: "wrong" });
    expect(status).toBe(0);
    expect(stdout).toContain("POSTHORN_RETRY_SECONDS");
    expect(stderr).toBe("");
  });

  test("an unknown argument is named", () => {
    const { status, stderr } = run(["--port"]);
    expect(status).toBe(64);
    expect(stderr).toContain("--port");
  });

  test("faults of the settings are listed on standard error, without a stack, and end it with 78", () => {
    const { status, stdout, stderr } = run([], { PORT: "wrong", LOG_LEVEL: "loud" });
    expect(status).toBe(78);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/PORT "wrong" .*\n.*LOG_LEVEL "loud" /);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test("the file .env is read, and the environment wins over it", () => {
    writeFileSync(join(directory, ".env"), "PORT=from-file\nLOG_LEVEL=from-file\n");
    const { status, stderr } = run([], { PORT: "from-environment" });
    expect(status).toBe(78);
    expect(stderr).toContain('PORT "from-environment"');
    expect(stderr).toContain('LOG_LEVEL "from-file"');
  });
});
