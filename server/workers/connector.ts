/** Opens connections that the address policy allows, and names what stood in the way of those that fail. */

import { type LookupAddress, lookup as systemLookup } from "node:dns";
import type { LookupFunction, Socket } from "node:net";
import type { SecureContext } from "node:tls";
import { buildConnector } from "undici";
import { type AddressPolicy, describeRefusal } from "./address-policy.ts";
import { ConnectFailure, describeConnectError } from "./error-kind.ts";

/** Finds every address of a host name. */
export type Lookup = (
  hostname: string,
  callback: (error: Error | null, addresses: LookupAddress[]) => void,
) => void;

export const lookupAll: Lookup = (hostname, callback) => systemLookup(hostname, { all: true }, callback);

/**
 * @param timeoutMs  bound on connecting, TLS included. An attempt has a bound of its own; this one ends a connection
 *                   that outlives it
 */
export function createConnector(
  policy: AddressPolicy,
  secureContext: SecureContext,
  timeoutMs: number,
  lookup: Lookup,
): buildConnector.connector {
  const connect = buildConnector({
    allowH2: false,
    timeout: timeoutMs,
    secureContext,
    // Said aloud, so that NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment does not turn it off.
    rejectUnauthorized: true,
    lookup: checkAddresses(policy, shareLookups(lookup)),
  });

  return (options, callback) => {
    const refusal = policy.refuseTarget(options.protocol, options.hostname);
    if (refusal !== null) {
      const failure = new ConnectFailure({ errorKind: "address_not_allowed", message: refusal });
      return queueMicrotask(() => callback(failure, null));
    }
    let isHandshake = false;
    const connecting = connect(options, (error, socket) => {
      if (error !== null) {
        return callback(new ConnectFailure(describeConnectError(error, isHandshake), { cause: error }), null);
      }
      if (!isOpen(socket)) {
        socket.destroy();
        return callback(refuseName(), null);
      }
      callback(null, socket);
    }) as unknown as Socket;
    if (options.protocol !== "https:") return;
    connecting.once("connect", () => {
      isHandshake = true;
      // Not only after the handshake: that would already tell the other side, and us, what is there.
      if (!isOpen(connecting)) connecting.destroy(refuseName());
    });
  };

  function isOpen({ remoteAddress }: Socket): boolean {
    return remoteAddress !== undefined && policy.isAllowed(remoteAddress);
  }
}

/** A name that has even one closed address is refused: which one gets connected to is not ours to choose. */
function checkAddresses(policy: AddressPolicy, lookup: Lookup): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, (error, addresses) => {
      if (error !== null) return callback(error, []);
      if (addresses.some(({ address }) => !policy.isAllowed(address))) return callback(refuseName(), []);
      const first = addresses[0]!;
      if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}

/** Does not tell the address: what a name stands for inside the operator's network is no business of tenants. */
function refuseName(): ConnectFailure {
  return new ConnectFailure({
    errorKind: "address_not_allowed",
    message: describeRefusal("of the host name"),
  });
}

/**
 * Lets requests that look for the same name at the same time share one lookup: lookups run on the few threads of
 * libuv's pool, and a burst to one host with a slow name server must not occupy them all.
 */
function shareLookups(lookup: Lookup): Lookup {
  const waitingByName = new Map<string, Parameters<Lookup>[1][]>();
  return (hostname, callback) => {
    const waiting = waitingByName.get(hostname);
    if (waiting !== undefined) {
      waiting.push(callback);
      return;
    }
    const callbacks = [callback];
    waitingByName.set(hostname, callbacks);
    lookup(hostname, (error, addresses) => {
      waitingByName.delete(hostname);
      for (const each of callbacks) each(error, addresses);
    });
  };
}
