/**
 * Whose a phone number is. A number can be taken only once in the installation, so in production a tenant has to show
 * that it is theirs: WhatsApp's Graph API must know it under the access token that they give.
 */

import type { ClientNumber } from "../domain/client.ts";
import { GatewayError } from "../domain/errors.ts";
import { readAccessToken } from "../store/clients.ts";
import type { Database } from "../store/orm.ts";
import type { Sealer } from "../store/sealer.ts";
import type { Caller } from "./auth.ts";

export interface NumberProofParts {
  database: Database;
  sealer: Sealer;
  mode: "production" | "development";
  /** `whatsapp/graph.ts`. */
  graph: {
    /** Null if the token is not shown this number; throws `invalid_input` or `unavailable`. */
    readPhoneNumber(
      phoneNumberId: string,
      accessToken: string,
    ): Promise<{ displayPhoneNumber: string | null } | null>;
  };
}

/** Questions to Graph under way at once, for one call. */
const parallelMax = 10;
/** No further questions after it: with the last ones the call stays below the 30 s that a caller waits at most. */
const deadlineMs = 15_000;

export function createNumberProof({ database, sealer, mode, graph }: NumberProofParts) {
  const isAsked = (caller: Caller) => mode === "production" && !caller.isOperator;

  return {
    /** True if this caller has to prove numbers. */
    isAsked,

    /** The token that the client has; null if it has none. */
    storedToken: (caller: Caller, clientRef: string) => readAccessToken(database, sealer, caller, clientRef),

    /**
     * Proves the numbers, if that is asked of the caller.
     *
     * @param findToken  the token to prove them with; called only if there is something to prove
     * @param isKnown    true for a number that needs no proof
     * @returns the numbers, with their digits as far as Graph told them
     * @throws GatewayError `invalid_input` for a number that is not proved or a token that is missing or refused,
     *         `unavailable` if Graph is away
     */
    async prove(
      caller: Caller,
      numbers: readonly ClientNumber[],
      findToken: () => Promise<string | null> | string | null,
      isKnown: (number: ClientNumber) => boolean = () => false,
    ): Promise<readonly ClientNumber[]> {
      if (!isAsked(caller) || numbers.every(isKnown)) return numbers;
      const accessToken = await findToken();
      if (accessToken === null) {
        throw new GatewayError(
          "invalid_input",
          "access_token: is needed to prove that the phone numbers are yours",
          { field: "access_token" },
        );
      }
      const endMs = performance.now() + deadlineMs;
      const proved: ClientNumber[] = [];
      for (let start = 0; start < numbers.length; start += parallelMax) {
        if (performance.now() > endMs) {
          throw new GatewayError("unavailable", "WhatsApp's Graph API is slow: add fewer numbers at once");
        }
        const some = numbers.slice(start, start + parallelMax);
        proved.push(
          ...(await Promise.all(
            some.map((number, offset) =>
              isKnown(number) ? number : proveOne(number, start + offset, accessToken),
            ),
          )),
        );
      }
      return proved;
    },
  };

  async function proveOne(number: ClientNumber, index: number, accessToken: string): Promise<ClientNumber> {
    const found = await graph.readPhoneNumber(number.phoneNumberId, accessToken);
    if (found !== null) {
      const { phoneNumberId, displayPhoneNumber } = number;
      return { phoneNumberId, displayPhoneNumber: displayPhoneNumber ?? found.displayPhoneNumber };
    }
    const field = `phone_numbers[${index}].phone_number_id`;
    throw new GatewayError(
      "invalid_input",
      `${field}: WhatsApp's Graph API does not show this number to the access token`,
      { field },
    );
  }
}
