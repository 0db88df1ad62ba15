/** Plugins for tests: files written into a directory of their own, and the real pool that loads them. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import pino from "pino";
import { builtinTransformers } from "../../plugins/builtin.ts";
import type { Transformer } from "../../plugins/transformer.ts";
import { type Clock, systemClock } from "../../server/clock.ts";
import { openPluginPool, type PluginPoolSettings } from "../../server/workers/plugin-pool.ts";

export interface PluginDirectory {
  path: string;
  /** Writes a file, and gives its path. */
  write(name: string, text: string): string;
  remove(name: string): void;
  close(): void;
}

/** Far from the project, as operators' plugins are. */
export function makePluginDirectory(files: Record<string, string> = {}): PluginDirectory {
  const path = mkdtempSync(join(tmpdir(), "posthorn-plugins-"));
  const directory = {
    path,
    write(name: string, text: string) {
      const file = join(path, name);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
      return file;
    },
    remove: (name: string) => rmSync(join(path, name), { recursive: true }),
    close: () => rmSync(path, { recursive: true, force: true }),
  };
  for (const [name, text] of Object.entries(files)) directory.write(name, text);
  return directory;
}

/** The source of a plugin; `body` is that of `transform(input)`. */
export function pluginSource(name: string, body: string, fields: Record<string, unknown> = {}): string {
  const written = { name, version: "1", description: "", handles: ["message.*"], ...fields };
  return `import { defineTransformer, respond } from "posthorn/plugin";
export default defineTransformer({
  ...${JSON.stringify(written)},
  transform(input) { ${body} },
});
`;
}

export interface TestPluginOptions {
  /** As in POSTHORN_PLUGINS. */
  named?: string[];
  builtin?: readonly Transformer[];
  workingDirectory?: string;
  ownDirectory?: string | null;
  limits?: Partial<PluginPoolSettings["limits"]>;
  quarantine?: Partial<PluginPoolSettings["quarantine"]>;
  watchMs?: number | null;
  clock?: Clock;
}

/** Without `named` there is no plugin, and no process. */
export async function openTestPlugins(options: TestPluginOptions = {}) {
  const { builtin = builtinTransformers, clock = systemClock } = options;
  const logged: Record<string, unknown>[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => logged.push(JSON.parse(line)) });
  const plugins = await openPluginPool(
    { builtin, clock, log },
    {
      sources: {
        named: options.named ?? [],
        workingDirectory: options.workingDirectory ?? "/",
        ownDirectory: options.ownDirectory ?? null,
        ownNames: new Set(builtin.map(({ name }) => name)),
      },
      limits: {
        budgetMs: 250,
        loadTimeoutMs: 20_000,
        heapMaxMib: 64,
        residentMaxMib: 512,
        ...options.limits,
      },
      quarantine: { endsMax: 3, withinMs: 600_000, pauseMs: 0, ...options.quarantine },
      watchMs: options.watchMs ?? null,
    },
  );
  return Object.assign(plugins, { logged });
}
