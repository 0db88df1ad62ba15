/** What `--help` prints and what `.env.example` holds, both made from the table of settings. */

import { type Setting, settings } from "./settings.ts";

const lineCharacters = 100;

/** Of the gateway itself. */
export function serveHelp(): string {
  return [
    "Posthorn: takes WhatsApp webhooks in and delivers them, transformed and signed, to your endpoints.",
    "",
    "Usage: posthorn [serve] [--help]",
    "",
    settingsText(),
  ].join("\n");
}

/** All settings of the gateway, with unit, default and effect. */
export function settingsText(): string {
  const lines = ["Settings are environment variables, or lines of the file .env in the working directory:"];
  for (const [name, setting] of Object.entries<Setting>(settings)) {
    lines.push("", `  ${name}  (${setting.unit})`);
    lines.push(...wrap(setting.effect, "      "), ...wrap(`Default: ${setting.default}.`, "      "));
  }
  return `${lines.join("\n")}\n`;
}

export function envExample(): string {
  const lines = [
    "# Settings of Posthorn. Copy this file to .env and take away the # before what you set.",
    "# `npm start -- --help` prints the same list.",
  ];
  for (const [name, setting] of Object.entries<Setting>(settings)) {
    lines.push("", ...wrap(setting.effect, "# "));
    lines.push(...wrap(`Unit: ${setting.unit}. Default: ${setting.default}.`, "# "), `#${name}=`);
  }
  return `${lines.join("\n")}\n`;
}

function wrap(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > lineCharacters) {
      lines.push(indent + line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, indent + line];
}
