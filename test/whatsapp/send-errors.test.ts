import { expect, test } from "vitest";
import { judgeSendError, reasonOfCode } from "../../server/whatsapp/send-errors.ts";

/** Meta's codes with the status that they come with, and what a sender should do about them. */
test.for([
  [401, [0, 190], "stop_number", "access_token_refused"],
  [403, [3, 10, 200, 299, 131005], "stop_number", "permission_missing"],
  [500, [10, 131005], "stop_number", "permission_missing"],
  [400, [4, 80007], "hold_number", "call_limit"],
  [400, [130429], "hold_number", "rate_limited"],
  [400, [131056], "hold_recipient", "recipient_rate_limited"],
  [400, [131048], "stop_number", "spam_limit"],
  [400, [131064, 131049, 131050, 130472], "fail", "held_back"],
  [400, [131047], "fail", "outside_window"],
  [400, [131026], "fail", "undeliverable"],
  [400, [131051], "fail", "unsupported_type"],
  [400, [131053], "fail", "media_invalid"],
  [400, [131008, 131009, 100, 33, 135000], "fail", "request_invalid"],
  [400, [131021, 131030, 131062], "fail", "recipient_invalid"],
  [403, [131031, 368, 130497], "stop_number", "account_restricted"],
  [400, [131042], "stop_number", "payment_problem"],
  [400, [131037], "stop_number", "display_name_problem"],
  [500, [131045, 133010], "stop_number", "registration_problem"],
  [500, [131057, 2494100], "hold_number", "maintenance"],
  [400, [1, 2, 131000, 131016, 133004], "retry", "whatsapp_unavailable"],
  [404, [132001], "fail", "template_not_found"],
  [400, [132000, 132005, 132007, 132012, 132018, 132021, 132068, 132069], "fail", "template_invalid"],
  [400, [132015, 132016], "fail", "template_stopped"],
  [400, [131020, 131041, 138000, 139200, 300, 999_999_999], "fail", "refused"],
] as [number, number[], string, string][])("status %i with %j: %s, %s", ([status, codes, action, reason]) => {
  for (const code of codes) {
    expect([code, judgeSendError(status, code)]).toEqual([code, expect.objectContaining({ action, reason })]);
    expect([code, reasonOfCode(code)]).toEqual([code, reason]);
  }
});

test.for([
  [500, null],
  [502, null],
  [500, 999_999],
  [503, 131016],
  [500, 131000],
] as [number, number | null][])("status %i with code %s says nothing about the message", ([status, code]) => {
  expect(judgeSendError(status, code)).toBeNull();
});

test("a status without a code is final, but for 429", () => {
  expect(judgeSendError(400, null)).toEqual({ action: "fail", reason: "refused" });
  expect(judgeSendError(302, null)).toEqual({ action: "fail", reason: "refused" });
  expect(judgeSendError(429, null)).toMatchObject({ action: "hold_number", reason: "rate_limited" });
});
