import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate as validateFile } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { printValidateProto } from "../../proto/print-validate.ts";

const root = new URL("../../", import.meta.url).pathname;
let scratch: string;
let files: Map<string, FileDescriptorProto>;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "posthorn-proto-"));
  const image = join(scratch, "image.binpb");
  buf("build", "-o", image);
  const set = fromBinary(FileDescriptorSetSchema, readFileSync(image));
  files = new Map(set.file.map((file) => [file.name, file]));
});
afterAll(() => {
  rmSync(scratch, { recursive: true });
});

function buf(...args: string[]): string {
  return execFileSync(join(root, "node_modules/.bin/buf"), args, { cwd: root, encoding: "utf8" });
}

describe("validate.proto", () => {
  test("is what the script prints from the installed @bufbuild/protovalidate", () => {
    expect(readFileSync(join(root, "proto/buf/validate/validate.proto"), "utf8")).toBe(printValidateProto());
  });

  test("compiles to the very descriptor that the runtime has", () => {
    expect(describeShape(files.get("buf/validate/validate.proto"))).toBe(describeShape(validateFile.proto));
  });
});

describe("our protos", () => {
  test("say everything in comments: each service, rpc, message and field", () => {
    const ours = [...files.values()].filter((file) => file.package === "posthorn.v1");
    expect(ours.length).toBeGreaterThan(3);
    const silent = ours.flatMap((file) => {
      const spoken = new Set(
        file.sourceCodeInfo?.location
          .filter((one) => one.leadingComments !== "")
          .map((one) => one.path.join()),
      );
      return pathsOf(file)
        .filter(([path]) => !spoken.has(path.join()))
        .map(([, name]) => `${file.name}: ${name}`);
    });
    expect(silent).toEqual([]);
  });

  test("are linted and formatted", () => {
    expect(buf("lint")).toBe("");
    expect(buf("format", "--diff", "--exit-code")).toBe("");
  });
});

/** Messages, fields, numbers, types and ranges; options aside, which only the runtime needs. */
function describeShape(file: FileDescriptorProto | undefined): string {
  const left = new Set(["options", "sourceCodeInfo", "$unknown"]);
  const { name: _, ...rest } = file ?? {};
  return JSON.stringify(
    rest,
    (key, value) => (left.has(key) ? undefined : typeof value === "bigint" ? String(value) : value),
    1,
  );
}

/** Paths as descriptor.proto numbers them: 4 message_type, 6 service, 7 extension; 2 field, 2 method inside. */
function pathsOf(file: FileDescriptorProto): [number[], string][] {
  return [
    ...file.messageType.flatMap((message, index): [number[], string][] => [
      [[4, index], message.name],
      ...message.field.map((field, at): [number[], string] => [
        [4, index, 2, at],
        `${message.name}.${field.name}`,
      ]),
    ]),
    ...file.service.flatMap((service, index): [number[], string][] => [
      [[6, index], service.name],
      ...service.method.map((method, at): [number[], string] => [
        [6, index, 2, at],
        `${service.name}.${method.name}`,
      ]),
    ]),
    ...file.extension.map((extension, index): [number[], string] => [[7, index], extension.name]),
  ];
}
