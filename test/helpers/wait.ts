const lookAgainMs = 20;

/**
 * Looks until what it sees is as wanted, and gives it back.
 *
 * @param what     what is waited for, as it stands in the error
 * @param boundMs  after so many milliseconds it rejects and tells what it saw last
 */
export async function waitFor<T>(
  what: string,
  look: () => T | Promise<T>,
  isWanted: (seen: T) => boolean,
  boundMs = 10_000,
): Promise<T> {
  const endMs = Date.now() + boundMs;
  for (;;) {
    const seen = await look();
    if (isWanted(seen)) return seen;
    if (Date.now() >= endMs) {
      throw new Error(`no ${what} within ${boundMs} ms, but ${JSON.stringify(seen)?.slice(0, 2_000)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, lookAgainMs));
  }
}
