/** An endpoint that answers 200 at the least cost and tells how many requests it got: nginx, or else a Node process. */

import { nextReply, startChild, stopChild } from "./children.ts";
import { openNginx } from "./nginx.ts";
import type { ReceiverOrder, ReceiverReply } from "./receiver.ts";

export interface CountingEndpoint {
  /** What it is, with its version. */
  name: string;
  /** Without a path; every path is answered. */
  url: string;
  /** The process that does the work, or whose children do. */
  pid: number;
  /** Requests since it was started. */
  arrivedCount(): Promise<number>;
  close(): Promise<void>;
}

/** @param directory  for its files; is there, and empty */
export async function openEndpoint(directory: string): Promise<CountingEndpoint> {
  return (await openNginx(directory)) ?? (await openNodeEndpoint());
}

async function openNodeEndpoint(): Promise<CountingEndpoint> {
  const child = startChild("receiver.ts");
  const { port } = await nextReply<ReceiverReply, "listening">(child, "listening");
  return {
    name: "a Node process",
    url: `http://127.0.0.1:${port}`,
    pid: child.pid!,
    async arrivedCount() {
      const counted = nextReply<ReceiverReply, "counted">(child, "counted");
      child.send({ kind: "count" } satisfies ReceiverOrder);
      return (await counted).count;
    },
    close: () => stopChild(child),
  };
}
