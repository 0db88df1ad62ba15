/** What processes used, as Linux tells in /proc. Elsewhere nothing is known, and the report says so. */

import { readdir, readFile } from "node:fs/promises";

/** Linux tells processor time in hundredths of a second, whatever its own clock runs at. */
const ticksPerSecond = 100;

/**
 * Processor time of a process, all its threads included, in seconds. Null where there is no /proc.
 *
 * @param withChildren  counts those that it started as well, also those that have ended meanwhile
 */
export async function cpuSecondsOf(pid: number, withChildren: boolean): Promise<number | null> {
  const own = await readStat(pid);
  if (own === null) return null;
  if (!withChildren) return own.ticks / ticksPerSecond;
  let ticks = own.ticks + own.endedChildrenTicks;
  for (const name of await readdir("/proc")) {
    const stat = /^\d+$/.test(name) ? await readStat(Number(name)) : null;
    if (stat?.parentPid === pid) ticks += stat.ticks + stat.endedChildrenTicks;
  }
  return ticks / ticksPerSecond;
}

export interface Memory {
  /** Pages in memory now (VmRSS), in MiB. */
  residentMib: number;
  /** The most there ever were (VmHWM), in MiB. */
  peakMib: number;
}

/** Null where there is no /proc. */
export async function memoryOf(pid: number): Promise<Memory | null> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  const mib = (name: string) => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status);
    return found ? Number(found[1]) / 1_024 : null;
  };
  const residentMib = mib("VmRSS");
  const peakMib = mib("VmHWM");
  return residentMib === null || peakMib === null ? null : { residentMib, peakMib };
}

interface Stat {
  parentPid: number;
  ticks: number;
  endedChildrenTicks: number;
}

/** Null for a process that is gone. */
async function readStat(pid: number): Promise<Stat | null> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  return text === null ? null : parseStat(text);
}

/** The second field is a name in brackets that may hold spaces and brackets itself: fields count from its end. */
export function parseStat(text: string): Stat {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [user, system, endedUser, endedSystem] = fields.slice(11, 15).map(Number);
  return {
    parentPid: Number(fields[1]),
    ticks: user! + system!,
    endedChildrenTicks: endedUser! + endedSystem!,
  };
}
