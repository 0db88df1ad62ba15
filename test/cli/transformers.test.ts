import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { makePluginDirectory, type PluginDirectory, pluginSource } from "../helpers/plugins.ts";
import { openPosthorn, type Posthorn } from "./posthorn.ts";

let gateway: TestGateway;
let posthorn: Posthorn;
let directory: PluginDirectory;

beforeAll(async () => {
  directory = makePluginDirectory({
    "sound.ts": pluginSource("sound", "return null;"),
    "broken.ts": "export default 5;",
  });
  gateway = await startTestGateway({ env: { POSTHORN_PLUGINS: directory.path } });
  posthorn = await openPosthorn(() => gateway.url());
});
afterAll(async () => {
  await posthorn?.close();
  await gateway?.close();
  directory?.close();
});

test("transformers are listed with their health: ours, plugins, and what does not load with its fault", async () => {
  const { stdout } = await posthorn.run(["transformers", "list"]);
  expect(stdout).toMatch(/^insights +\S+ +ok +0 +comes with the gateway$/m);
  expect(stdout).toMatch(/^sound +1 +ok +0 +0 +\S*sound\.ts$/m);
  expect(stdout).toMatch(/^ *failed +0 +0 +\S*broken\.ts.*defineTransformer/m);
});

test("as JSON they are an array of everything that the API tells", async () => {
  const { json } = await posthorn.run(["transformers", "list", "--json"]);
  expect(json).toContainEqual(expect.objectContaining({ name: "sound", health: "ok", builtin: false }));
});
