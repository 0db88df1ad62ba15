/** `posthorn <noun> <verb>`: commands that speak to a gateway through its public API, as any other client does. */

import { existsSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { version } from "../version.ts";
import { addAudit } from "./audit.ts";
import { addClients } from "./clients.ts";
import { gatewayUrl } from "./connection.ts";
import { addDeliveries } from "./deliveries.ts";
import { describeFault, exitCodes } from "./fault.ts";
import { addKeys } from "./keys.ts";
import { addPlugin } from "./plugin.ts";
import { addRecoveries } from "./recoveries.ts";
import { addSecrets } from "./secrets.ts";
import { addTenants } from "./tenants.ts";
import { addTransform } from "./transform.ts";
import { addTransformers } from "./transformers.ts";
import { addWebhooks } from "./webhooks.ts";

const environmentHelp = `
Commands read these variables, from the environment or the file .env:

  POSTHORN_URL  address of the gateway; default http://127.0.0.1:8080
  POSTHORN_KEY  key to call it with; default, for a gateway on this machine: its operator key, from
                POSTHORN_OPERATOR_KEY or from operator.key in POSTHORN_DATA_DIR

They end with 0 when all went well, 1 when the call failed, 2 when the command or a field is wrong, 3 when
the thing does not exist, 4 when the key is missing or may not, 5 when the gateway is away or busy and trying
again may help, 6 when something is in the way (it exists already, or is in another state).
`;

/**
 * Runs one command.
 *
 * @param args  what follows `posthorn`
 * @returns the exit code; what went wrong is told in one line on standard error
 */
export async function runCommand(args: string[]): Promise<number> {
  if (existsSync(".env")) process.loadEnvFile(".env");
  // `posthorn … | head` closes the pipe early: that is no failure.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    process.exit(error.code === "EPIPE" ? exitCodes.done : exitCodes.failed);
  });
  const program = createProgram();
  if (asksForHelp(args)) {
    const { settingsText } = await import("../help.ts");
    program.addHelpText("after", `${environmentHelp}\n${settingsText()}`);
  }
  try {
    await program.parseAsync(args, { from: "user" });
    return Number(process.exitCode ?? exitCodes.done);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
    const { message, exitCode } = describeFault(error, gatewayUrl(process.env));
    process.stderr.write(`posthorn: ${message.replace(/\s*\n\s*/g, " ")}\n`);
    return exitCode;
  }
}

function createProgram(): Command {
  const program = new Command("posthorn")
    .description("WhatsApp webhooks in; transformed, signed and delivered to your endpoints.")
    .version(version)
    .exitOverride()
    .showHelpAfterError(false)
    .configureOutput({
      outputError: (text, write) =>
        write(
          `posthorn: ${text
            .replace(/^error: /, "")
            .trim()
            .replace(/\s*\n\s*/g, " ")}\n`,
        ),
    });
  program.command("serve").description("runs the gateway, as `posthorn` without a command does");
  addWebhooks(program.command("webhooks").description("endpoints that events are delivered to"));
  addDeliveries(program.command("deliveries").description("what was sent where, and sending again"));
  addRecoveries(program.command("recoveries").description("sending again in bulk, or what a webhook missed"));
  addClients(program.command("clients").description("businesses, and their WhatsApp numbers"));
  addKeys(program.command("keys").description("keys of a tenant; for the operator key"));
  addTenants(program.command("tenants").description("customers of the operator; for the operator key"));
  addAudit(program.command("audit").description("who changed what; for the operator key"));
  addTransformers(program.command("transformers").description("what turns events into payloads"));
  addPlugin(program.command("plugin").description("transformers of your own: begins one, tests one"));
  addTransform(
    program
      .command("transform")
      .description("prints what a transformer makes of a WhatsApp body or item on standard input"),
  );
  addSecrets(
    program.command("secrets").description("secrets at rest; works on the database, not through a gateway"),
  );
  return program;
}

/** Settings make the help of the whole program long, and that of a single command no better. */
function asksForHelp(args: readonly string[]): boolean {
  const [first, second] = args;
  return first === "--help" || first === "-h" || (first === "help" && second === undefined);
}
