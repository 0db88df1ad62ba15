import { existsSync } from "node:fs";
import type { Command } from "commander";
import type { Config } from "../config.ts";
import type { ReencryptionReport } from "../store/reencrypt.ts";
import { CommandFault, exitCodes } from "./fault.ts";
import { printJson, printNote, printTable } from "./output.ts";

export function addSecrets(secrets: Command): void {
  secrets
    .command("reencrypt")
    .description(
      "encrypts all secrets with the first key of POSTHORN_MASTER_KEY; safe beside running gateways, and to repeat",
    )
    .option("--json", "print one JSON document")
    .action(reencrypt);
}

async function reencrypt(options: { json?: true }): Promise<void> {
  // Loaded here: they bring the ORM and the rules of the settings, which no other command needs.
  const { readConfig } = await import("../serve.ts");
  const { reencryptAtRest } = await import("../reencrypt-at-rest.ts");
  const config = readConfig();
  if (config === null) return;
  checkFit(config);
  const report = await reencryptAtRest(config, printNote);
  if (options.json) printJson(toJsonReport(report));
  else printReport(report);
  if (report.columns.some((one) => one.unopenedCount > 0)) process.exitCode = exitCodes.failed;
}

function checkFit(config: Config): void {
  if (config.keys.masterKeys.length === 0) {
    throw new CommandFault(
      "POSTHORN_MASTER_KEY is not set: write the new key and, behind a comma, the one that the secrets have now " +
        "(a gateway that made its own keeps it in master.key in POSTHORN_DATA_DIR)",
    );
  }
  if (config.database.url === null && !existsSync(config.dataDir)) {
    throw new CommandFault(
      `there is no database: set DATABASE_URL, or POSTHORN_DATA_DIR, which is ${config.dataDir} and does not exist`,
    );
  }
}

function toJsonReport(report: ReencryptionReport) {
  return {
    columns: report.columns.map((one) => ({
      name: one.name,
      resealed_count: one.resealedCount,
      unopened_count: one.unopenedCount,
    })),
    keys: report.keys.map((key) => ({
      key_id: key.keyId,
      place: key.place,
      secret_count: key.secretCount,
      may_be_removed: mayBeRemoved(key),
    })),
  };
}

function printReport({ columns, keys }: ReencryptionReport): void {
  printTable(
    ["SECRETS", "ENCRYPTED ANEW", "LEFT AS THEY WERE"],
    columns.map((one) => [one.name, String(one.resealedCount), String(one.unopenedCount)]),
  );
  process.stdout.write("\n");
  printTable(
    ["MASTER KEY", "PLACE", "SECRETS"],
    keys.map((key) => [key.keyId, String(key.place ?? "missing"), String(key.secretCount)]),
  );
  for (const key of keys) {
    const advice = adviseOn(key);
    if (advice !== null) printNote(advice);
  }
}

type KeyUse = ReencryptionReport["keys"][number];

function mayBeRemoved(key: KeyUse): boolean {
  return key.place !== null && key.place > 1 && key.secretCount === 0;
}

function adviseOn(key: KeyUse): string | null {
  if (key.place === 1) return null;
  if (mayBeRemoved(key)) {
    return (
      `Key ${key.keyId} (place ${key.place}) encrypts nothing any more. Take it out of POSTHORN_MASTER_KEY once every ` +
      "gateway has been started with the first key in front; backups made before still need it."
    );
  }
  if (key.place !== null) {
    return (
      `Key ${key.keyId} (place ${key.place}) still encrypts ${key.secretCount}: either a gateway runs that has it in ` +
      "front, or they were altered. Keep it, and run this again when all gateways have the first key in front."
    );
  }
  return (
    `Key ${key.keyId} encrypts ${key.secretCount} and is missing in POSTHORN_MASTER_KEY: add it behind the first ` +
    "and run this again."
  );
}
