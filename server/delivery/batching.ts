/** Which of the waiting events share the next commit. */

export interface BatchLimits<T> {
  /** Elements of a batch at most, but for those that belong together. */
  countMax: number;
  /** A batch that is as large takes no more. */
  bytesMax: number;
  bytesOf(one: T): number;
  /** Whose an element is, told by `===`. */
  sourceOf(one: T): unknown;
  /** True if an element must not be parted from the one before it, which is of the same source. */
  isJoined(before: T, after: T): boolean;
}

/**
 * Takes the next batch out of `queue`, oldest first; each source keeps its own order. While more wait than a batch holds,
 * every source gets an equal share of it first: a tenant that sends a hundred times as much as another fills what is left,
 * and the other waits for no more than the commit under way.
 *
 * @returns at least one element, unless the queue is empty
 */
export function takeBatch<T>(queue: T[], limits: BatchLimits<T>): T[] {
  const { countMax, bytesMax, bytesOf, sourceOf, isJoined } = limits;
  if (queue.length <= countMax && hasLess(queue, bytesMax, bytesOf)) return queue.splice(0);
  const sources = queue.map(sourceOf);
  const share = Math.max(1, Math.floor(countMax / new Set(sources).size));
  const isTaken = new Array<boolean>(queue.length).fill(false);
  let takenCount = 0;
  let takenBytes = 0;

  function pass(isWanted: (source: unknown) => boolean): void {
    for (let index = 0; index < queue.length; index++) {
      if (isTaken[index]) continue;
      const isFull = takenCount >= countMax || takenBytes >= bytesMax;
      const follows = index > 0 && isTaken[index - 1] && isJoined(queue[index - 1]!, queue[index]!);
      if (!follows && (isFull || !isWanted(sources[index]))) continue;
      isTaken[index] = true;
      takenCount += 1;
      takenBytes += bytesOf(queue[index]!);
    }
  }

  const countBySource = new Map<unknown, number>();
  pass((source) => {
    const count = countBySource.get(source) ?? 0;
    countBySource.set(source, count + 1);
    return count < share;
  });
  pass(() => true);
  const batch = queue.filter((_, index) => isTaken[index]);
  const left = queue.filter((_, index) => !isTaken[index]);
  queue.splice(0, queue.length, ...left);
  return batch;
}

function hasLess<T>(queue: readonly T[], bytesMax: number, bytesOf: (one: T) => number): boolean {
  let bytes = 0;
  for (const one of queue) bytes += bytesOf(one);
  return bytes < bytesMax;
}
