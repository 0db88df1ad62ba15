/** The gateway as a process: loads the configuration, starts the app, turns signals into a stop. */

import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { type Config, ConfigError, loadConfig } from "./config.ts";
import { keepHeapSmall } from "./heap.ts";
import { serveHelp } from "./help.ts";
import { createLogger } from "./log.ts";

/** EX_CONFIG and EX_USAGE of sysexits.h: starting again would not help, so a supervisor should not. */
const exitConfig = 78;
const exitUsage = 64;
const stopTimeoutMs = 15_000;
const parentCheckMs = 500;

/** @param args  what follows `serve`; anything but --help is a mistake */
export async function serve(args: readonly string[]): Promise<void> {
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(serveHelp());
    return;
  }
  if (args.length > 0) {
    process.stderr.write(`posthorn: unknown argument ${args[0]}; --help shows how to use it\n`);
    process.exitCode = exitUsage;
    return;
  }
  const config = readConfig();
  if (config !== null) await runGateway(config);
}

/** The settings; null if they are at fault, which is then told on standard error and in the exit code. */
export function readConfig(): Config | null {
  if (existsSync(".env")) process.loadEnvFile(".env");
  try {
    return loadConfig(process.env, { coreCount: availableParallelism() });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const list = error.faults.map(({ name, message }) => `  ${name} ${message}\n`).join("");
    process.stderr.write(`Posthorn cannot start with these settings:\n${list}--help shows all settings.\n`);
    process.exitCode = exitConfig;
    return null;
  }
}

async function runGateway(config: Config): Promise<void> {
  keepHeapSmall();
  const log = createLogger(config.log.level);
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error: unknown) => {
      log.fatal({ err: error }, "the gateway ends because of an error that nothing caught");
      process.exit(1);
    });
  }
  for (const warning of config.warnings) log.warn(warning);

  // Signals count from here on: one that comes while the app starts stops it as soon as it runs.
  const stopped = Promise.withResolvers<{ reason: string; exitCode: number }>();
  let isStopping = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (isStopping) process.exit(signal === "SIGINT" ? 130 : 143);
      isStopping = true;
      stopped.resolve({ reason: signal, exitCode: 0 });
    });
  }
  let reloadPlugins: (() => Promise<void>) | null = null;
  if (config.mode === "production") {
    // Elsewhere a terminal that is closed ends the gateway by this signal, and plugins are loaded as they change.
    process.on("SIGHUP", () => void reloadPlugins?.().catch(() => undefined));
  }
  stopWithParent(() => {
    isStopping = true;
    stopped.resolve({ reason: "npm ended", exitCode: 0 });
  });
  const onBroken = (error: Error) => {
    log.fatal({ err: error }, "no worker thread can be started");
    stopped.resolve({ reason: "broken", exitCode: 1 });
  };

  try {
    // Loaded here, so that help and faults of the settings are shown at once and need none of it.
    const { startApp } = await import("./app.ts");
    const app = await startApp(config, { log, onBroken });
    if (app.newOperatorKey !== null) process.stdout.write(presentKey(app.newOperatorKey));
    reloadPlugins = app.reloadPlugins;
    log.info({ url: app.url, mode: config.mode }, `listening on ${app.url}`);
    const { reason, exitCode } = await stopped.promise;
    log.info({ reason }, "stopping");
    setTimeout(() => {
      log.error(`not everything closed within ${stopTimeoutMs} ms`);
      process.exit(1);
    }, stopTimeoutMs).unref();
    await app.close();
    process.exit(exitCode);
  } catch (error) {
    const what = isStopping ? "Posthorn did not stop cleanly" : "Posthorn cannot start";
    log.fatal({ err: error }, what);
    process.stderr.write(`${what}: ${error instanceof Error ? error.message : error}\n`);
    process.exit(1);
  }
}

/** npm starts scripts through a shell that dies of a signal without passing it on: its end is the signal then. */
function stopWithParent(stop: () => void): void {
  if (process.env.npm_lifecycle_event === undefined) return;
  const parentId = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parentId) return;
    clearInterval(timer);
    stop();
  }, parentCheckMs);
  timer.unref();
}

/** Printed, not logged: logs are kept and sent to places where a key must not be. */
function presentKey(key: string): string {
  return [
    "",
    "  Operator key of this gateway, shown this once:",
    "",
    `      ${key}`,
    "",
    "  Send it as `Authorization: Bearer <key>`. It is kept in operator.key in the data directory.",
    "",
    "",
  ].join("\n");
}
