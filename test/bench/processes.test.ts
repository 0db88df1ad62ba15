import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { cpuSecondsOf, memoryOf, parseStat } from "./processes.ts";

describe("what Linux tells of a process", () => {
  test("is read behind the name, whatever the name holds", () => {
    const text =
      "42 (a) b (c) S 7 42 42 0 -1 4194304 100 0 0 0 250 50 30 20 20 0 12 0 9999 1000 200 18446744073709551615";
    expect(parseStat(text)).toEqual({ parentPid: 7, ticks: 300, endedChildrenTicks: 50 });
  });

  test.runIf(existsSync("/proc/self/stat"))("grows with the work of this very process", async () => {
    const before = (await cpuSecondsOf(process.pid, false))!;
    const usageBefore = process.cpuUsage();
    while (process.cpuUsage(usageBefore).user < 100_000) Math.sqrt(2);
    const after = (await cpuSecondsOf(process.pid, false))!;
    const used = process.cpuUsage(usageBefore);
    const usedSeconds = (used.user + used.system) / 1e6;
    expect(after - before).toBeGreaterThan(0.05);
    expect(after - before).toBeLessThan(usedSeconds + 0.05);
  });

  test.runIf(existsSync("/proc/self/stat"))(
    "agrees with what the process itself says of its memory",
    async () => {
      const memory = (await memoryOf(process.pid))!;
      const ownMib = process.memoryUsage.rss() / 2 ** 20;
      expect(memory.residentMib / ownMib).toBeGreaterThan(0.5);
      expect(memory.residentMib / ownMib).toBeLessThan(2);
      expect(memory.peakMib).toBeGreaterThanOrEqual(memory.residentMib);
    },
  );

  test("is nothing for a process that is not there", async () => {
    expect(await cpuSecondsOf(2 ** 30, true)).toBeNull();
    expect(await memoryOf(2 ** 30)).toBeNull();
  });
});
