/** Finds out whether a transformer changes what it was given. */

import type { Transformer, TransformerInput } from "../transformer.ts";

/**
 * A transformer that does the same on a frozen input: a change of it throws at the very line, or is found afterwards
 * (the hands of a Date can be moved even when it is frozen).
 */
export function withWatchedInput(transformer: Transformer): {
  transformer: Transformer;
  /** What was changed in the last run; null for nothing. */
  findChange(): string | null;
} {
  let input: TransformerInput | undefined;
  let before = "";
  let refusal: string | null = null;
  const note = (error: unknown): never => {
    if (
      error instanceof TypeError &&
      /read only|not extensible|Cannot (assign|delete|define|add)/.test(error.message)
    ) {
      refusal = error.message;
    }
    throw error;
  };
  return {
    transformer: {
      ...transformer,
      transform(given) {
        input = freezeDeep(given);
        freezeDeep(given.event.item);
        before = JSON.stringify(toPlain(input));
        refusal = null;
        try {
          const answer = transformer.transform(input);
          return answer instanceof Promise ? answer.catch(note) : answer;
        } catch (error) {
          return note(error);
        }
      },
    },
    findChange() {
      if (refusal !== null) return refusal;
      if (input === undefined || JSON.stringify(toPlain(input)) === before) return null;
      return "a Date in it was set";
    },
  };
}

/** With the item, which the event makes only when it is asked for. */
function toPlain(input: TransformerInput): unknown {
  return { ...input, event: { ...input.event, item: input.event.item } };
}

function freezeDeep<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const member of Object.values(value)) freezeDeep(member);
  }
  return value;
}
