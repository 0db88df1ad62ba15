import { create, type DescField, type DescMessage, getOption, hasOption } from "@bufbuild/protobuf";
import { field as fieldRules } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { describe, expect, test } from "vitest";
import { file_posthorn_v1_api_key_service } from "../../gen/posthorn/v1/api_key_service_pb.ts";
import { file_posthorn_v1_client_service } from "../../gen/posthorn/v1/client_service_pb.ts";
import {
  file_posthorn_v1_contact_service,
  UpdateContactRequestSchema,
} from "../../gen/posthorn/v1/contact_service_pb.ts";
import { file_posthorn_v1_delivery_service } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import { file_posthorn_v1_event_service } from "../../gen/posthorn/v1/event_service_pb.ts";
import { file_posthorn_v1_message_service } from "../../gen/posthorn/v1/message_service_pb.ts";
import { file_posthorn_v1_tenant_service } from "../../gen/posthorn/v1/tenant_service_pb.ts";
import { file_posthorn_v1_transformer_service } from "../../gen/posthorn/v1/transformer_service_pb.ts";
import { file_posthorn_v1_webhook_service } from "../../gen/posthorn/v1/webhook_service_pb.ts";
import { createWordedValidator, wordsByPattern } from "../../server/rpc/validation.ts";

const files = [
  file_posthorn_v1_api_key_service,
  file_posthorn_v1_client_service,
  file_posthorn_v1_contact_service,
  file_posthorn_v1_delivery_service,
  file_posthorn_v1_event_service,
  file_posthorn_v1_message_service,
  file_posthorn_v1_tenant_service,
  file_posthorn_v1_transformer_service,
  file_posthorn_v1_webhook_service,
];

function fieldsOf(message: DescMessage): DescField[] {
  return [...message.fields, ...message.nestedMessages.flatMap(fieldsOf)];
}

function patternsOf(one: DescField): string[] {
  if (!hasOption(one, fieldRules)) return [];
  const { type } = getOption(one, fieldRules);
  const kinds = [
    type,
    type.case === "repeated" ? type.value.items?.type : undefined,
    ...(type.case === "map" ? [type.value.keys?.type, type.value.values?.type] : []),
  ];
  return kinds.flatMap((kind) => (kind?.case === "string" && kind.value.pattern ? [kind.value.pattern] : []));
}

const patterns = new Set(
  files.flatMap((file) => file.messages.flatMap(fieldsOf)).flatMap((one) => patternsOf(one)),
);

test("every regular expression of the protos is told in words, and no other", () => {
  expect(patterns.size).toBeGreaterThan(5);
  expect([...patterns].sort()).toEqual(Object.keys(wordsByPattern).sort());
});

describe("who breaks a rule that is a regular expression", () => {
  const validator = createWordedValidator();
  const user = { userId: "0199c0de-0000-7000-8000-000000000001" };

  test("is told the field and what to write", () => {
    const result = validator.validate(
      UpdateContactRequestSchema,
      create(UpdateContactRequestSchema, { ...user, labels: ["good", "a,b"], name: "" }),
    );
    expect(result.violations?.map(String)).toEqual([
      "name: must be 1 to 200 characters, none of them U+0000 [string.pattern]",
      "labels[1]: must be 1 to 100 characters, none of them a comma or U+0000 [string.pattern]",
    ]);
    expect(result.error?.message).toContain("name: must be 1 to 200 characters, none of them U+0000");
  });

  test("is told of other rules in the words of those", () => {
    const labels = Array.from({ length: 51 }, (_, index) => `label ${index}`);
    const result = validator.validate(
      UpdateContactRequestSchema,
      create(UpdateContactRequestSchema, { ...user, labels }),
    );
    expect(result.violations?.map(String)).toEqual([
      "labels: must contain no more than 50 item(s) [repeated.max_items]",
    ]);
    expect(
      validator.validate(UpdateContactRequestSchema, create(UpdateContactRequestSchema, user)).kind,
    ).toBe("valid");
  });
});
