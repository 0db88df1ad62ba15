/** What authors build on depends on nothing of the gateway's, and neither do the transformers that come with it. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { builtinTransformers } from "../../plugins/builtin.ts";

const directory = fileURLToPath(new URL("../../plugins", import.meta.url));

test.each(builtinTransformers.map(({ name }) => name))(
  "%s imports its own files and the contract only",
  (name) => {
    const imported = importsOf(name);
    expect(imported).toContain("../transformer.ts");
    expect(imported.filter((path) => !/^(\.\/[a-z-]+\.ts|\.\.\/transformer\.ts)$/.test(path))).toEqual([]);
  },
);

test("posthorn/plugin imports nothing but its own parts, no library and no module of Node's", () => {
  expect(importsOf("sdk").filter((path) => !/^(\.\/[a-z-]+\.ts|\.\.\/transformer\.ts)$/.test(path))).toEqual(
    [],
  );
  const contract = specifiersIn(join(directory, "transformer.ts"));
  expect(contract.length).toBeGreaterThan(0);
  expect(contract.filter((path) => !/^\.\/sdk\/[a-z-]+\.ts$/.test(path))).toEqual([]);
});

test("every export of posthorn/plugin and its test kit has a comment where it is made", () => {
  const files = [
    ...["sdk", "testing"].flatMap((folder) =>
      readdirSync(join(directory, folder)).map((file) => join(directory, folder, file)),
    ),
    join(directory, "transformer.ts"),
  ];
  const bare = files.flatMap((file) => {
    const lines = readFileSync(file, "utf8").split("\n");
    const isCommented = (index: number) => /\*\/$|^\/\//.test(lines[index - 1] ?? "");
    return lines
      .filter(
        (line, index) =>
          /^export (async )?(function|const|class|interface|type \w)/.test(line) && !isCommented(index),
      )
      .map((line) => `${file.slice(directory.length + 1)}: ${line}`);
  });
  expect(bare).toEqual([]);
});

function importsOf(folder: string): string[] {
  return readdirSync(join(directory, folder))
    .filter((file) => file.endsWith(".ts"))
    .flatMap((file) => specifiersIn(join(directory, folder, file)));
}

function specifiersIn(file: string): string[] {
  return [...readFileSync(file, "utf8").matchAll(/^(?:import|export|\}) .*"(\S+)";$/gm)].map(
    ([, path]) => path!,
  );
}
