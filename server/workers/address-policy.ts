/**
 * Who may be connected to. Tenants choose URLs, so without this a webhook could reach the gateway's own network: its
 * database, a cloud's metadata service, a neighbour's admin page (SSRF).
 *
 * A host is judged by the addresses it stands for, never by its name: literals before connecting, every address that
 * a lookup gave, and the address of the socket once it is connected, since a name may answer differently each time.
 */

import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import type { WorkerSettings } from "./settings.ts";

export interface AddressPolicy {
  /** Says why a URL of this protocol (`https:`) and host (IPv6 with or without brackets) is refused; null if not. */
  refuseTarget(protocol: string, host: string): string | null;
  /** True if connections to the address (text form of IPv4 or IPv6, zone allowed) may be made. */
  isAllowed(address: string): boolean;
}

type Network = [ipaddr.IPv4 | ipaddr.IPv6, number];

/** @throws Error that names the network in `allowedNetworks` which is no CIDR */
export function createAddressPolicy(
  settings: Pick<WorkerSettings, "mode" | "allowedNetworks">,
): AddressPolicy {
  const allowedNetworks = settings.allowedNetworks.map(parseNetwork);
  const openRanges = rangesByMode[settings.mode];

  const isAllowed = (text: string) => {
    if (!ipaddr.isValid(text)) return false;
    // ::ffff:127.0.0.1 is 127.0.0.1 in other clothes; process() takes them off.
    const address = ipaddr.process(text);
    if (allowedNetworks.some((network) => isWithin(address, network))) return true;
    const range = address.range();
    // Of IPv6 only 2000::/3 is given out; what lies outside is called unicast merely for lack of another name.
    if (range === "unicast") return address.kind() === "ipv4" || isWithin(address, globalUnicast);
    return openRanges.has(range);
  };

  return {
    isAllowed,
    refuseTarget(protocol, host) {
      if (protocol !== "https:" && !(protocol === "http:" && settings.mode === "development")) {
        return "Only https URLs are sent to.";
      }
      const literal = host.replace(/^\[|\]$/g, "");
      return isIP(literal) !== 0 && !isAllowed(literal) ? describeRefusal(literal) : null;
    },
  };
}

export function describeRefusal(address: string): string {
  return `The address ${address} is not allowed: it is not public, and not in POSTHORN_ALLOWED_NETWORKS.`;
}

/**
 * Ranges of ipaddr.js that are open besides public unicast. Link-local stays closed even in development: it is
 * neither loopback nor private, and holds the metadata services of clouds (169.254.169.254).
 */
const rangesByMode: Record<WorkerSettings["mode"], ReadonlySet<string>> = {
  production: new Set(),
  development: new Set(["loopback", "private", "uniqueLocal"]),
};

const globalUnicast: Network = ipaddr.parseCIDR("2000::/3");

function parseNetwork(text: string): Network {
  try {
    return ipaddr.parseCIDR(text);
  } catch (cause) {
    throw new Error(
      `allowed network ${JSON.stringify(text)} is no CIDR; write it like 10.1.0.0/16 or fd00::/8`,
      {
        cause,
      },
    );
  }
}

function isWithin(address: ipaddr.IPv4 | ipaddr.IPv6, [start, bits]: Network): boolean {
  return address.kind() === start.kind() && address.match(start as ipaddr.IPv4 & ipaddr.IPv6, bits);
}
