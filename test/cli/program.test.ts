import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { operatorKey, startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { openPosthorn, type Posthorn } from "./posthorn.ts";

let gateway: TestGateway;
let posthorn: Posthorn;
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterAll(() => gateway?.close());
beforeEach(async () => {
  posthorn = await openPosthorn(() => gateway.url());
});
afterEach(() => posthorn.close());

describe("help", () => {
  test("of the program shows the commands, the exit codes and the settings of the gateway", async () => {
    const { code, stdout, stderr } = await posthorn.run(["--help"]);
    expect([code, stderr]).toEqual([0, ""]);
    for (const noun of [
      "serve",
      "webhooks",
      "deliveries",
      "clients",
      "keys",
      "tenants",
      "audit",
      "plugin",
      "transform",
      "secrets",
    ]) {
      expect(stdout).toMatch(new RegExp(`^  ${noun} `, "m"));
    }
    expect(stdout).toContain("POSTHORN_KEY");
    expect(stdout).toContain("POSTHORN_RETRY_SECONDS");
  });

  test("of serve shows the settings", async () => {
    const { code, stdout } = await posthorn.run(["serve", "--help"]);
    expect(code).toBe(0);
    expect(stdout).toContain("POSTHORN_RETRY_SECONDS");
  });

  test("of a command shows its options", async () => {
    const { code, stdout } = await posthorn.run(["webhooks", "create", "--help"]);
    expect(code).toBe(0);
    expect(stdout).toContain("--waiting-duration <seconds>");
    expect(stdout).not.toContain("POSTHORN_RETRY_SECONDS");
  });

  test("of the version shows the one of the package", async () => {
    expect((await posthorn.run(["--version"])).stdout).toBe(`${packageJson.version}\n`);
  });
});

describe("what is typed wrong", () => {
  test.each([
    [["webhoks", "list"], /unknown command 'webhoks'.*webhooks/],
    [["webhooks", "lst"], /unknown command 'lst'.*list/],
    [["webhooks", "get"], /missing required argument 'id'/],
    [["webhooks", "get", "one"], /'id'.*must be a whole number/],
    [["webhooks", "get", "99999999999"], /'id'.*must be a whole number/],
    [["webhooks", "list", "--jsn"], /unknown option '--jsn'/],
    [["webhooks", "list", "extra"], /too many arguments/],
    [["keys", "create", "--name", "n"], /--scope/],
    [["webhooks", "create", "https://example.com", "--transformer-options", "[]"], /must be a JSON object/],
    [["webhooks", "create", "https://example.com", "--header", "no colon"], /'Name: value'/],
  ])("%s ends with 2 and one line", async (args, message) => {
    const { code, stdout, stderr } = await posthorn.run(args as string[]);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(/^posthorn: [^\n]+\n$/);
    expect(stderr).toMatch(message as RegExp);
  });

  test("a noun alone shows its commands and ends with 2", async () => {
    const { code, stdout, stderr } = await posthorn.run(["webhooks"]);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("create");
  });
});

describe("what the gateway refuses", () => {
  test.each([
    ["a field that breaks a rule", ["webhooks", "create", "no-url"], 2, "webhooks: must be a full URL"],
    ["a missing thing", ["webhooks", "get", "999"], 3, "webhook 999 does not exist"],
    ["an unknown tenant", ["webhooks", "list", "--tenant", "nobody"], 3, "tenant"],
  ])("%s has an exit code, and its field and rule in one line", async (_name, args, exitCode, message) => {
    const { code, stdout, stderr } = await posthorn.run([...(args as string[]), "--json"]);
    expect([code, stdout]).toEqual([exitCode, ""]);
    expect(stderr).toMatch(/^posthorn: [^\n]+\n$/);
    expect(stderr).toContain(message);
  });

  test("a URL that is taken ends with 6, in the words of the contract", async () => {
    await posthorn.run(["webhooks", "create", "https://example.com/taken"]);
    const { code, stderr } = await posthorn.run(["webhooks", "create", "https://example.com/taken"]);
    expect([code, stderr]).toEqual([6, "posthorn: Same webhook exist\n"]);
  });
});

describe("the gateway that is called", () => {
  test("being away ends with 5, and says where it was looked for", async () => {
    const { code, stderr } = await posthorn.run(["webhooks", "list"], {
      env: { POSTHORN_URL: "http://127.0.0.1:1" },
    });
    expect(code).toBe(5);
    expect(stderr).toMatch(
      /^posthorn: no gateway answers at http:\/\/127\.0\.0\.1:1: .*POSTHORN_URL[^\n]*\n$/,
    );
  });

  test("being something else ends with 1, and says so", async () => {
    const server = createServer((_request, response) => {
      response.writeHead(404, { "Content-Type": "text/html" }).end("<h1>Not found</h1>");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const POSTHORN_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { code, stderr } = await posthorn.run(["webhooks", "list"], { env: { POSTHORN_URL } });
    server.close();
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^posthorn: http:\/\/127\.0\.0\.1:\d+ does not know this call: is it a Posthorn gateway/,
    );
  });

  test("has to have a URL", async () => {
    const { code, stderr } = await posthorn.run(["webhooks", "list"], {
      env: { POSTHORN_URL: "localhost:80" },
    });
    expect([code, stderr]).toEqual([
      2,
      "posthorn: POSTHORN_URL must be a URL such as http://127.0.0.1:8080\n",
    ]);
  });
});

describe("the key", () => {
  const withoutKey = { POSTHORN_KEY: "" };

  async function keepOperatorKey(directory: string): Promise<void> {
    await mkdir(join(posthorn.directory, directory), { recursive: true });
    await writeFile(join(posthorn.directory, directory, "operator.key"), `${operatorKey}\n`);
  }

  test("is the operator's of the data directory when none is given", async () => {
    await keepOperatorKey(".posthorn");
    expect((await posthorn.run(["tenants", "list"], { env: withoutKey })).code).toBe(0);
  });

  test("is looked for where POSTHORN_DATA_DIR says, and .env counts", async () => {
    await keepOperatorKey("elsewhere");
    await writeFile(join(posthorn.directory, ".env"), "POSTHORN_DATA_DIR=elsewhere\n");
    expect((await posthorn.run(["tenants", "list"], { env: withoutKey })).code).toBe(0);
  });

  test("is the first of POSTHORN_OPERATOR_KEY where the gateway gets it from there", async () => {
    const env = { ...withoutKey, POSTHORN_OPERATOR_KEY: `${operatorKey}, the-other-operator-key-24` };
    expect((await posthorn.run(["tenants", "list"], { env })).code).toBe(0);
  });

  test("of this machine is never sent to another one", async () => {
    await keepOperatorKey(".posthorn");
    const env = { ...withoutKey, POSTHORN_OPERATOR_KEY: operatorKey, POSTHORN_URL: "http://gateway.invalid" };
    const { code, stderr } = await posthorn.run(["tenants", "list"], { env });
    expect(code).toBe(4);
    expect(stderr).toMatch(/^posthorn: no key: set POSTHORN_KEY/);
  });

  test("that is wrong ends with 4 and is not repeated", async () => {
    const { code, stdout, stderr } = await posthorn.run(["webhooks", "list"], {
      env: { POSTHORN_KEY: "phk_hidden-and-wrong" },
    });
    expect(code).toBe(4);
    expect(stderr).toContain("set POSTHORN_KEY");
    expect(stdout + stderr).not.toContain("hidden-and-wrong");
  });
});

test("a command that calls a gateway loads neither the database's libraries nor those of the gateway", async () => {
  const preload = join(posthorn.directory, "preload.mjs");
  const listed = join(posthorn.directory, "loaded");
  await writeFile(
    preload,
    `import { registerHooks } from "node:module";
     import { writeFileSync } from "node:fs";
     const loaded = [];
     registerHooks({ load(url, context, next) { loaded.push(url); return next(url, context); } });
     process.on("exit", () => writeFileSync(${JSON.stringify(listed)}, loaded.join("\\n")));`,
  );
  const { code } = await posthorn.run(["webhooks", "list"], { env: { NODE_OPTIONS: `--import ${preload}` } });
  expect(code).toBe(0);
  const loaded = await readFile(listed, "utf8");
  expect(loaded).toContain("/server/cli/webhooks.ts");
  expect(loaded).not.toMatch(
    /mikro-orm|node_modules\/(pg|pino|zod|piscina|undici)\/|server\/(store|app|config)/,
  );
});
