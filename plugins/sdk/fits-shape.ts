/** Compares what came with what a type says. A shape is written beside its type and cannot differ from it. */

import { isJsonObject } from "./json.ts";

/** For each member what it must be: with `?` it may be null or absent too. `amount` is a number or a text. */
export type Shape<T> = { readonly [Key in keyof T]-?: MemberShape<T[Key]> };

type MemberShape<T> = unknown extends T
  ? "unknown"
  : null extends T
    ? OptionalShape<NonNullable<T>>
    : RequiredShape<T>;
type RequiredShape<T> = [T] extends [string]
  ? "string"
  : [T] extends [number]
    ? "number"
    : [T] extends [boolean]
      ? "boolean"
      : [T] extends [string | number]
        ? "amount"
        : [T] extends [readonly (infer Entry)[]]
          ? unknown extends Entry
            ? "list"
            : { readonly list: Shape<Entry> }
          : Shape<T>;
type OptionalShape<T> = [T] extends [string]
  ? "string?"
  : [T] extends [number]
    ? "number?"
    : [T] extends [boolean]
      ? "boolean?"
      : [T] extends [string | number]
        ? "amount?"
        : [T] extends [readonly (infer Entry)[]]
          ? unknown extends Entry
            ? "list?"
            : { readonly optionalList: Shape<Entry> }
          : { readonly optional: string extends keyof T ? Record<string, never> : Shape<T> };

/** True if `value` is an object whose members are all as `shape` says; members that it does not name do not count. */
export function fitsShape<T>(value: unknown, shape: Shape<T>): value is T {
  return fitsAnyShape(value, shape as AnyShape);
}

/** As `fitsShape`, where the shape comes from a table. */
export function fitsAnyShape(value: unknown, shape: AnyShape): boolean {
  if (typeof shape === "string") return fitsKind(value, shape);
  if ("list" in shape) return fitsList(value, shape.list as AnyShape);
  if ("optionalList" in shape)
    return (value ?? null) === null || fitsList(value, shape.optionalList as AnyShape);
  if ("optional" in shape) return (value ?? null) === null || fitsAnyShape(value, shape.optional as AnyShape);
  if (!isJsonObject(value)) return false;
  return Object.keys(shape).every((key) =>
    fitsAnyShape(Object.hasOwn(value, key) ? value[key] : undefined, shape[key] as AnyShape),
  );
}

function fitsList(value: unknown, shape: AnyShape): boolean {
  return Array.isArray(value) && value.every((entry) => fitsAnyShape(entry, shape));
}

function fitsKind(value: unknown, kind: string): boolean {
  if (kind === "unknown") return true;
  if (kind.endsWith("?")) return (value ?? null) === null || fitsKind(value, kind.slice(0, -1));
  if (kind === "amount") return typeof value === "string" || typeof value === "number";
  if (kind === "list") return Array.isArray(value);
  return typeof value === kind;
}

type AnyShape = string | { readonly [key: string]: unknown };
