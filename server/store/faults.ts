/** What a failed statement says about the chance of trying it again. */

/** The data itself was refused: the same rows will be refused again. */
export function isDataFault(error: unknown): boolean {
  const code = sqlState(error);
  return code !== null && (code.startsWith("22") || code.startsWith("23") || code.startsWith("54"));
}

/** Two transactions were in each other's way: trying again is likely to succeed. */
export function isRepeatable(error: unknown): boolean {
  const code = sqlState(error);
  if (code === "40001" || code === "40P01" || code === "23505") return true;
  // A row found no partition, which the next try makes: the clock has leapt into another day. Or a duplicate key was on
  // its way to the default partition while its day got one of its own. A rule that a row breaks has a name.
  return code === "23514" && (error as { constraint?: unknown }).constraint === undefined;
}

/** A table that the statement names is not there any more. */
export function isTableGone(error: unknown): boolean {
  return sqlState(error) === "42P01";
}

const networkCodes = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ENOTFOUND", "EAI_AGAIN"]);
/** What pg says when a connection breaks or none comes; such errors carry no code. */
const brokenConnection =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered)/;

/** PostgreSQL is away, starting, stopping or out of resources: the same call may succeed later. */
export function isDatabaseOutage(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  if (typeof code === "string" && networkCodes.has(code)) return true;
  const state = sqlState(error);
  return state === null ? brokenConnection.test(error.message) : /^(08|53|57)/.test(state);
}

/** Five characters of SQLSTATE; null for a failure that did not come from the server. */
function sqlState(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code;
  // Every SQLSTATE holds a digit; system codes such as EPIPE have the same length.
  return typeof code === "string" && /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : null;
}
