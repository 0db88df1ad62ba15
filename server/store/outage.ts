import { sqlState } from "./faults.ts";

const networkCodes = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ENOTFOUND", "EAI_AGAIN"]);
/** What pg says when a connection breaks or none comes; such errors carry no code. */
const brokenConnection =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered)/;

/**
 * True if a failure means that the database was away, so that the same call may succeed later. Narrower than
 * `isConnectionFault`, which takes everything without a SQLSTATE for an outage: here a mistake of ours must stay one.
 */
export function isDatabaseOutage(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  if (typeof code === "string" && networkCodes.has(code)) return true;
  const state = sqlState(error);
  return state === null ? brokenConnection.test(error.message) : /^(08|53|57)/.test(state);
}
