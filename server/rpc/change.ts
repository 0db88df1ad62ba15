/** What follows a change of configuration. */

import type { Logger } from "pino";
import { GatewayError } from "../domain/errors.ts";

export interface ChangeParts {
  log: Logger;
  /** Refreshes what this process knows of the configuration and tells the other processes. */
  configurationChanged(): Promise<void>;
  /** Says that something may be due now. */
  wakeDispatcher(): void;
}

/**
 * Waits for a change and tells everybody. What a refusal leaves behind is nothing; any other failure may come after the
 * commit.
 */
export async function changing<T>(parts: ChangeParts, change: Promise<T>): Promise<T> {
  try {
    const result = await change;
    await announce(parts);
    return result;
  } catch (error) {
    if (!(error instanceof GatewayError)) await announce(parts);
    throw error;
  }
}

/**
 * A change that is committed has happened: an answer that says otherwise would lose the only look at a secret. Those
 * who publish and claim compare versions, so a word that is lost costs the others a moment and no promise.
 */
async function announce(parts: ChangeParts): Promise<void> {
  try {
    await parts.configurationChanged();
  } catch (error) {
    parts.log.warn({ err: error }, "a change of configuration could not be announced");
  }
  parts.wakeDispatcher();
}
