/** Process entry: the gateway itself, or a command that speaks to one. Loads only what the one of them needs. */

const args = process.argv.slice(2);
const [first] = args;
const isOption = first?.startsWith("-") && !["--help", "-h", "--version", "-V"].includes(first);

if (first === undefined || first === "serve" || isOption) {
  const { serve } = await import("./serve.ts");
  await serve(first === "serve" ? args.slice(1) : args);
} else {
  const { runCommand } = await import("./cli/program.ts");
  process.exitCode = await runCommand(args);
}
