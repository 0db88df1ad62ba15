/** What a failed statement says about the chance of trying it again. */

/** The data itself was refused: the same rows will be refused again. */
export function isDataFault(error: unknown): boolean {
  const code = sqlState(error);
  return code !== null && (code.startsWith("22") || code.startsWith("23") || code.startsWith("54"));
}

/** Two transactions were in each other's way: trying again is likely to succeed. */
export function isRepeatable(error: unknown): boolean {
  const code = sqlState(error);
  return code === "40001" || code === "40P01" || code === "23505";
}

/** PostgreSQL is away, starting, stopping or out of resources: wait, then try again. */
export function isConnectionFault(error: unknown): boolean {
  const code = sqlState(error);
  return code === null || code.startsWith("08") || code.startsWith("53") || code.startsWith("57");
}

/** Five characters of SQLSTATE; null for a failure that did not come from the server. */
export function sqlState(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : null;
}
