const dayMs = 24 * 3_600_000;

/**
 * Runs something while `Date` tells a time of more than a day later. For a moment this holds for
 * the whole thread, so nothing else that asks for the time should run beside it.
 */
export async function atAnotherTime<T>(run: () => Promise<T>): Promise<T> {
  const laterMs = dayMs + 3_723_456;
  const RealDate = globalThis.Date;
  class LaterDate extends RealDate {
    constructor(...given: unknown[]) {
      if (given.length === 0) super(RealDate.now() + laterMs);
      // As many arguments as were given: `new Date(2026, 0)` and `new Date(0)` are different things.
      else super(...(given as [number]));
    }
    static override now(): number {
      return RealDate.now() + laterMs;
    }
  }
  globalThis.Date = LaterDate as DateConstructor;
  try {
    return await run();
  } finally {
    globalThis.Date = RealDate;
  }
}
