/** Which tenants have a webhook that asks for events about the gateway: looked up at every delivery that fails. */

import { coversType, type EventType } from "../domain/event.ts";
import type { DirectoryKeeper } from "../store/directory.ts";

export interface Listeners {
  /** True if a webhook of the tenant that is on names the type, or a pattern that covers it. */
  hasListener(tenantId: number, type: EventType): boolean;
  /** All tenants of which that is true. */
  tenantsOf(type: EventType): readonly number[];
}

export function createListeners(directory: Pick<DirectoryKeeper, "current">): Listeners {
  let version = -1n;
  const tenantsByType = new Map<EventType, ReadonlySet<number>>();

  /** Found once for each version of the configuration. */
  function tenantsOf(type: EventType): ReadonlySet<number> {
    if (directory.current.version !== version) {
      tenantsByType.clear();
      version = directory.current.version;
    }
    let tenantIds = tenantsByType.get(type);
    if (!tenantIds) {
      const listening = [...directory.current.webhooks.values()].filter(
        ({ isEnabled, eventTypes }) => isEnabled && eventTypes.some((pattern) => coversType(pattern, type)),
      );
      tenantIds = new Set(listening.map(({ tenantId }) => tenantId));
      tenantsByType.set(type, tenantIds);
    }
    return tenantIds;
  }

  return {
    hasListener: (tenantId, type) => tenantsOf(type).has(tenantId),
    tenantsOf: (type) => [...tenantsOf(type)],
  };
}
