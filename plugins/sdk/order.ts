/** What a conversation shows of an order: how many items, and what they cost together. */

import { listOf, recordOf, textOf } from "./json.ts";

/** An exact decimal number: `units` × 10^-`scale`. */
interface Decimal {
  units: bigint;
  scale: number;
}

/**
 * `2 items, 85 USD`: the entries of `product_items`, and price × quantity in sum, exact to the last digit given.
 * Several currencies are listed one by one; no total is named when a price or quantity is missing or no number.
 */
export function summarizeOrder(order: unknown): string {
  const items = listOf(recordOf(order)?.product_items);
  const count = items.length === 1 ? "1 item" : `${items.length} items`;
  const totals = sumByCurrency(items);
  return totals === null || totals.size === 0
    ? count
    : `${count}, ${[...totals].map(([currency, total]) => `${format(total)} ${currency}`.trim()).join(" + ")}`;
}

function sumByCurrency(items: readonly unknown[]): Map<string, Decimal> | null {
  const totals = new Map<string, Decimal>();
  for (const item of items) {
    const record = recordOf(item);
    const price = decimalOf(record?.item_price);
    const quantity = decimalOf(record?.quantity);
    if (price === null || quantity === null) return null;
    const currency = textOf(record?.currency) ?? "";
    const cost = { units: price.units * quantity.units, scale: price.scale + quantity.scale };
    const sum = totals.get(currency);
    totals.set(currency, sum === undefined ? cost : add(sum, cost));
  }
  return totals;
}

function decimalOf(value: unknown): Decimal | null {
  const match = /^(\d{1,20})(?:\.(\d{1,10}))?$/.exec(textOf(value) ?? "");
  if (match === null) return null;
  const fraction = match[2] ?? "";
  return { units: BigInt(match[1] + fraction), scale: fraction.length };
}

function add(first: Decimal, second: Decimal): Decimal {
  const scale = Math.max(first.scale, second.scale);
  return { units: raise(first, scale) + raise(second, scale), scale };
}

function raise(decimal: Decimal, scale: number): bigint {
  return decimal.units * 10n ** BigInt(scale - decimal.scale);
}

function format({ units, scale }: Decimal): string {
  if (scale === 0) return String(units);
  const digits = String(units).padStart(scale + 1, "0");
  return `${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}
