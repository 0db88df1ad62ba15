/** What the commands that call a gateway have in common. */

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type Connection, connect } from "./connection.ts";
import { positiveNumber } from "./options.ts";
import {
  type Fields,
  printFields,
  printJson,
  printJsonList,
  printNote,
  printTable,
  toFields,
} from "./output.ts";

export interface CommonOptions {
  json?: true;
  tenant?: string;
}

export interface ListOptions extends CommonOptions {
  limit?: number;
}

/** A command with the options that all of them take. */
export function addCommand(noun: Command, name: string, description: string): Command {
  return noun
    .command(name)
    .description(description)
    .option("--json", "print one JSON document, as the API writes it")
    .option("--tenant <name>", "tenant to speak of; for the operator key");
}

/** A command that lists. */
export function addListCommand(noun: Command, description: string): Command {
  return addCommand(noun, "list", description).option(
    "--limit <count>",
    "how many to show at most",
    positiveNumber,
  );
}

export function open(options: CommonOptions): Connection {
  return connect(process.env, options.tenant);
}

export function print(fields: Fields, options: CommonOptions): void {
  if (options.json) printJson(fields);
  else printFields(fields);
}

export interface Listing<Item extends DescMessage> {
  /** Asks for one page. */
  ask(page: { pageSize: number; pageToken: string }): Promise<{
    items: MessageShape<Item>[];
    nextPageToken: string;
  }>;
  item: Item;
  columns: readonly string[];
  toRow(fields: Fields): string[];
  /** How many rows a table has unless told otherwise; JSON has all. Default: all. */
  tableLimit?: number;
}

const pageSizeMax = 500;

/** Prints a list, newest first, asking for as many pages as it takes. */
export async function printList<Item extends DescMessage>(
  listing: Listing<Item>,
  options: ListOptions,
): Promise<void> {
  const limit = options.limit ?? (options.json ? undefined : listing.tableLimit);
  if (options.json) return await printJsonList(readAll(listing, limit));
  const rows: string[][] = [];
  // One more than is shown tells whether there are more.
  for await (const fields of readAll(listing, limit === undefined ? undefined : limit + 1)) {
    rows.push(listing.toRow(fields));
  }
  printTable(listing.columns, rows.slice(0, limit));
  if (limit !== undefined && rows.length > limit)
    printNote(`There are more: --limit shows more than ${limit}.`);
}

async function* readAll<Item extends DescMessage>(
  { ask, item }: Listing<Item>,
  limit = Number.POSITIVE_INFINITY,
): AsyncGenerator<Fields> {
  let left = limit;
  let pageToken = "";
  do {
    const page = await ask({ pageSize: Math.min(left, pageSizeMax), pageToken });
    for (const found of page.items.slice(0, left)) yield toFields(item, found);
    left -= page.items.length;
    pageToken = page.nextPageToken;
  } while (left > 0 && pageToken !== "");
}
