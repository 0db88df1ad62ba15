/** Memory of the gateway's process: before any work, and the most there ever was after each step. */

import { spreadOf } from "./figures.ts";
import { type Memory, memoryOf } from "./processes.ts";
import type { Measure, Section } from "./section.ts";

const barMib = 350;

export interface MemoryWatch {
  /** Looks once more; `label` says after what. */
  note(label: string): Promise<void>;
  section(): Section;
}

/** @param pid  of a gateway that has done nothing yet */
export async function watchMemory(pid: number): Promise<MemoryWatch> {
  const seen: { label: string; memory: Memory | null }[] = [];
  const atRest = await memoryOf(pid);
  return {
    async note(label) {
      seen.push({ label, memory: await memoryOf(pid) });
    },
    section: () => ({
      name: "Memory",
      title: "Memory of the gateway's process",
      notes: ["Resident memory; the most is that since its start, so it only grows from line to line."],
      measures: [
        lineOf("at rest", atRest?.residentMib ?? null),
        ...seen.map(({ label, memory }, index) => ({
          ...lineOf(`at most, up to the end of ${label}`, memory?.peakMib ?? null),
          ...(memory !== null &&
            index === seen.length - 1 && {
              bar: { text: `< ${barMib} MiB`, isMet: memory.peakMib < barMib },
            }),
        })),
      ],
    }),
  };
}

function lineOf(label: string, mib: number | null): Measure {
  return { label, unit: "MiB", gateway: mib === null ? null : spreadOf([mib]) };
}
