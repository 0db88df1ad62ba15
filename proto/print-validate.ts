/**
 * Writes proto/buf/validate/validate.proto, which our protos import for their validation rules.
 *
 * The file is printed from the descriptor inside `@bufbuild/protovalidate` (Apache-2.0), because no package ships its
 * text and the network is not needed this way. What it lacks is what no compiler needs: comments, and the CEL
 * options on the rules themselves, which only the runtime evaluates and has.
 *
 * Run it after each upgrade of `@bufbuild/protovalidate`: `npm run generate` does.
 */

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { DescEnum, DescExtension, DescField, DescMessage, DescOneof } from "@bufbuild/protobuf";
import { FieldDescriptorProto_Label, FieldDescriptorProto_Type } from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate as file } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

/** The text of validate.proto, in the layout of `buf format`. */
export function printValidateProto(): string {
  const { dependency, options } = file.proto;
  const lines = [
    "// Copyright 2023-2026 Buf Technologies, Inc. Licensed under the Apache License, Version 2.0.",
    "// Printed by proto/print-validate.ts from @bufbuild/protovalidate; do not edit.",
    "",
    'syntax = "proto2";',
    "",
    `package ${file.proto.package};`,
    "",
    ...dependency.map((path) => `import ${JSON.stringify(path)};`),
    "",
    `option go_package = ${JSON.stringify(options?.goPackage)};`,
    `option java_multiple_files = ${options?.javaMultipleFiles};`,
    `option java_outer_classname = ${JSON.stringify(options?.javaOuterClassname)};`,
    `option java_package = ${JSON.stringify(options?.javaPackage)};`,
    "",
    ...file.messages.flatMap((message) => [...printMessage(message), ""]),
    ...file.enums.flatMap((enumeration) => [...printEnum(enumeration), ""]),
    ...file.extensions.flatMap((extension) => [...printExtension(extension), ""]),
  ];
  return `${lines.join("\n").trimEnd()}\n`;
}

function printMessage(message: DescMessage): string[] {
  const { reservedRange, reservedName, extensionRange } = message.proto;
  const body = [
    ...reservedRange.map(({ start, end }) => printRange("reserved", start, end - 1)),
    ...reservedName.map((name) => `reserved ${JSON.stringify(name)};`),
    ...message.members.flatMap((member) =>
      member.kind === "oneof" ? printOneof(member) : printField(member),
    ),
    ...extensionRange.map(({ start, end }) => printRange("extensions", start, end - 1)),
  ];
  return [`message ${message.name} {`, ...indent(body), "}"];
}

function printOneof(oneof: DescOneof): string[] {
  return [`oneof ${oneof.name} {`, ...indent(oneof.fields.flatMap(printField)), "}"];
}

function printField(field: DescField): string[] {
  if (field.fieldKind === "map") throw new Error(`${field} is a map, which this printer does not know`);
  const label = field.oneof ? "" : `${labels[field.proto.label]} `;
  return [`${label}${typeName(field)} ${field.name} = ${field.number};`];
}

function printEnum(enumeration: DescEnum): string[] {
  const { reservedRange, reservedName } = enumeration.proto;
  const body = [
    ...reservedRange.map(({ start, end }) => printRange("reserved", start, end)),
    ...reservedName.map((name) => `reserved ${JSON.stringify(name)};`),
    ...enumeration.values.map((value) => `${value.name} = ${value.number};`),
  ];
  return [`enum ${enumeration.name} {`, ...indent(body), "}"];
}

function printExtension(extension: DescExtension): string[] {
  return [
    `extend ${extension.extendee.typeName} {`,
    ...indent([`optional ${typeName(extension)} ${extension.name} = ${extension.number};`]),
    "}",
  ];
}

function printRange(word: string, first: number, last: number): string {
  if (first === last) return `${word} ${first};`;
  return `${word} ${first} to ${last === 536_870_911 ? "max" : last};`;
}

const labels: Record<FieldDescriptorProto_Label, string> = {
  [FieldDescriptorProto_Label.OPTIONAL]: "optional",
  [FieldDescriptorProto_Label.REQUIRED]: "required",
  [FieldDescriptorProto_Label.REPEATED]: "repeated",
};

/** `string`, `uint64`, … or the full name of a message or enum. */
function typeName({ proto }: { proto: DescField["proto"] }): string {
  return proto.typeName
    ? proto.typeName.replace(/^\./, "").replace(/^buf\.validate\./, "")
    : scalarName(proto.type);
}

function scalarName(type: FieldDescriptorProto_Type): string {
  return FieldDescriptorProto_Type[type].toLowerCase();
}

function indent(lines: string[]): string[] {
  return lines.map((line) => `  ${line}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(new URL("buf/validate/validate.proto", import.meta.url), printValidateProto());
}
