/** The folder that `posthorn plugin new` writes: a transformer that works, and all that belongs to one. */

import { mkdir, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { builtinTransformers } from "../../plugins/builtin.ts";
import { CommandFault, exitCodes } from "./fault.ts";
import { scaffoldFiles } from "./scaffold-files.ts";

const ownRoot = fileURLToPath(new URL("../..", import.meta.url));

/**
 * @param name       of the transformer, and of the folder
 * @param directory  is made if it is missing
 * @returns the folder's absolute path
 * @throws CommandFault if the name is no transformer's, or one that comes with the gateway has it, or the folder is there
 *   already: nothing is ever overwritten
 */
export async function writeScaffold(name: string, directory: string): Promise<string> {
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(name)) {
    throw new CommandFault(
      `${JSON.stringify(name)} cannot be a transformer's name: 1 to 64 lower-case letters, digits and hyphens, a letter first`,
    );
  }
  // The gateway would not load it.
  if (builtinTransformers.some((builtin) => builtin.name === name)) {
    throw new CommandFault(
      `${name} is the name of a transformer that comes with the gateway: choose another name`,
      exitCodes.conflict,
    );
  }
  const folder = resolve(directory, name);
  try {
    await mkdir(dirname(folder), { recursive: true });
    // Fails if it is there, so that what is written below can overwrite nothing.
    await mkdir(folder);
  } catch (error) {
    throw explain(error as NodeJS.ErrnoException, folder);
  }
  for (const [path, text] of Object.entries({ ...scaffoldFiles(name), ...editorFiles(folder) })) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text, { flag: "wx" });
  }
  return folder;
}

/**
 * Inside the gateway's own source its settings hold. Elsewhere Node has to be told that the files are ES modules, and
 * editors where `posthorn/plugin` is.
 */
function editorFiles(folder: string): Record<string, string> {
  if (`${folder}${sep}`.startsWith(ownRoot)) return {};
  const here = relative(folder, ownRoot).split(sep).join("/");
  const compilerOptions = {
    target: "es2024",
    module: "nodenext",
    strict: true,
    noEmit: true,
    erasableSyntaxOnly: true,
    allowImportingTsExtensions: true,
    verbatimModuleSyntax: true,
    skipLibCheck: true,
    types: ["node"],
    typeRoots: [`${here}/node_modules/@types`],
    paths: {
      "posthorn/plugin": [`${here}/plugins/transformer.ts`],
      "posthorn/plugin/testing": [`${here}/plugins/testing.ts`],
    },
  };
  return {
    "package.json": `${JSON.stringify({ name: basename(folder), private: true, type: "module" }, null, 2)}\n`,
    "tsconfig.json": `${JSON.stringify({ compilerOptions, include: ["**/*.ts"] }, null, 2)}\n`,
  };
}

function explain(error: NodeJS.ErrnoException, folder: string): Error {
  if (error.code === "EEXIST" || error.code === "ENOTDIR") {
    return new CommandFault(
      `${folder} is there already: choose another name, or another --dir`,
      exitCodes.conflict,
    );
  }
  return new CommandFault(`${folder} cannot be written: ${error.message}`, exitCodes.failed);
}
