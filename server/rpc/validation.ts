/** The rules of the proto files, with messages that say what to write where the rule is a regular expression. */

import { createValidator, ValidationError, type Validator, Violation } from "@bufbuild/protovalidate";

/** Checks as protovalidate does; who breaks a `string.pattern` is told in words. */
export function createWordedValidator(): Validator {
  const validator = createValidator();
  return {
    ...validator,
    validate(schema, message) {
      const result = validator.validate(schema, message);
      if (result.kind !== "invalid") return result;
      const violations = result.violations.map(inWords);
      return { ...result, error: new ValidationError(violations), violations };
    },
  };
}

function inWords(violation: Violation): Violation {
  const { message, ruleId, field, rule, forKey } = violation;
  const pattern = /^does not match regex pattern `(.*)`$/s.exec(message)?.[1];
  const words = pattern === undefined ? undefined : wordsByPattern[pattern];
  return words === undefined ? violation : new Violation(words, ruleId, field, rule, forKey);
}

/** What a text has to be to match; every pattern of the proto files is here. */
export const wordsByPattern: Readonly<Record<string, string>> = {
  "^[^\\x00]*$": "must not hold the character U+0000",
  "^[^\\x00]{1,200}$": "must be 1 to 200 characters, none of them U+0000",
  "^[^,\\x00]{1,100}$": "must be 1 to 100 characters, none of them a comma or U+0000",
  "^[A-Za-z0-9_-]{1,128}$": "must be 1 to 128 letters, digits, _ or -",
  "^[!-~]+$": "must be visible ASCII characters without blanks",
  "^[!-~]{16,200}$": "must be 16 to 200 visible ASCII characters without blanks",
  "^[\\x21-\\x7e]{1,200}$": "must be 1 to 200 visible ASCII characters without blanks",
  "^[a-z0-9_.]{1,128}$":
    "must be an event type, such as message.received: 1 to 128 lower-case letters, digits, _ or .",
  "^([a-z0-9_.]{1,128}|[a-z0-9_.]{0,127}\\*)$":
    "must be an event type, such as message.received, or the start of one with * at its end",
  "^https?://[!-~]+$": "must be a URL that begins with https:// or http:// and holds no blanks",
  "^[a-z0-9_]{1,512}$": "must be 1 to 512 lower-case letters, digits or _",
  "^[A-Za-z_-]{2,20}$": "must be a language code, such as en_US",
  "^[a-z0-9][a-z0-9_-]{0,63}$":
    "must be 1 to 64 lower-case letters, digits, _ or -, the first a letter or a digit",
  "^[a-z][a-z0-9-]{0,63}$": "must be 1 to 64 lower-case letters, digits or -, the first a letter",
};
