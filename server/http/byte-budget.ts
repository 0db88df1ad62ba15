/**
 * Bounds the memory that unanswered requests hold. Beyond it new ones are turned away, so that a slow database makes
 * senders wait instead of making the process grow until it is killed.
 */
export interface ByteBudget {
  /** Takes `byteCount` bytes if they are there; false = not taken. */
  take(byteCount: number): boolean;
  /** Gives back what was taken. */
  give(byteCount: number): void;
  readonly takenBytes: number;
}

export function createByteBudget(bytesMax: number): ByteBudget {
  let takenBytes = 0;
  return {
    take(byteCount) {
      if (takenBytes + byteCount > bytesMax) return false;
      takenBytes += byteCount;
      return true;
    },
    give(byteCount) {
      takenBytes -= byteCount;
    },
    get takenBytes() {
      return takenBytes;
    },
  };
}
