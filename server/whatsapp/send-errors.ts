/**
 * What to do about an error of a send, by Graph's code: Meta's pages say to go by it and by nothing else. What is not
 * listed is permanent with a status of 4xx; with 5xx nobody knows whether the message went out.
 */

/** What follows a refusal. */
export type SendAction =
  /** Nothing is wrong with the message: again after a short wait. */
  | "retry"
  /** The number, or all of the app, sends too much: the number waits. */
  | "hold_number"
  /** Too many messages to this very user: they wait, each time longer. */
  | "hold_recipient"
  /** The number can send nothing until a person has mended something. */
  | "stop_number"
  /** The same message would be refused again. */
  | "fail";

export interface SendError {
  action: SendAction;
  /** One word for the log and for callers. */
  reason: string;
  /** For `hold_number`: how long. */
  holdSeconds?: number;
}

interface Rule extends SendError {
  codes: readonly number[];
  /** Inclusive. */
  range?: readonly [number, number];
}

const rules: readonly Rule[] = [
  { action: "stop_number", reason: "access_token_refused", codes: [0, 190] },
  { action: "stop_number", reason: "permission_missing", codes: [3, 10, 131005], range: [200, 299] },
  { action: "stop_number", reason: "account_restricted", codes: [368, 130497, 131031] },
  { action: "stop_number", reason: "spam_limit", codes: [131048] },
  { action: "stop_number", reason: "payment_problem", codes: [131042] },
  { action: "stop_number", reason: "display_name_problem", codes: [131037] },
  { action: "stop_number", reason: "registration_problem", codes: [131045, 133010] },
  { action: "hold_number", reason: "rate_limited", codes: [130429], holdSeconds: 4 },
  { action: "hold_number", reason: "call_limit", codes: [4, 80007], holdSeconds: 120 },
  { action: "hold_number", reason: "maintenance", codes: [131057, 2494100], holdSeconds: 60 },
  { action: "hold_recipient", reason: "recipient_rate_limited", codes: [131056] },
  { action: "retry", reason: "whatsapp_unavailable", codes: [1, 2, 131000, 131016, 133004] },
  { action: "fail", reason: "outside_window", codes: [131047] },
  { action: "fail", reason: "undeliverable", codes: [131026] },
  { action: "fail", reason: "held_back", codes: [130472, 131049, 131050, 131064] },
  { action: "fail", reason: "recipient_invalid", codes: [131021, 131030, 131062] },
  { action: "fail", reason: "unsupported_type", codes: [131051] },
  { action: "fail", reason: "media_invalid", codes: [131053] },
  { action: "fail", reason: "request_invalid", codes: [33, 100, 131008, 131009, 135000] },
  { action: "fail", reason: "template_not_found", codes: [132001] },
  {
    action: "fail",
    reason: "template_invalid",
    codes: [132000, 132005, 132007, 132012, 132018, 132021, 132068, 132069],
  },
  { action: "fail", reason: "template_stopped", codes: [132015, 132016] },
];

const rateLimitCode = 130429;
const ruleByCode = new Map(rules.flatMap((rule) => rule.codes.map((code) => [code, rule] as const)));

/**
 * @param code  Graph's error code; null if the answer had none
 * @returns null if nobody knows what became of the message
 */
export function judgeSendError(httpStatus: number, code: number | null): SendError | null {
  const rule = code === null ? undefined : findRule(code);
  // Answers that may mean anything, on a status that says that the server failed half-way.
  if (httpStatus >= 500 && (rule === undefined || rule.action === "retry")) return null;
  // Whatever stands before Graph limits us, and knows no codes.
  if (httpStatus === 429 && rule === undefined) return ruleByCode.get(rateLimitCode)!;
  return rule ?? { action: "fail", reason: "refused" };
}

/** A word for the code of a status that says `failed`. */
export function reasonOfCode(code: number | null): string {
  return (code === null ? undefined : findRule(code))?.reason ?? "refused";
}

function findRule(code: number): Rule | undefined {
  return ruleByCode.get(code) ?? rules.find(({ range }) => range && code >= range[0] && code <= range[1]);
}
