export type EmbeddedPostgresErrorKind =
  /** No PostgreSQL binaries for this machine, or they are not installed. */
  | "no_binaries"
  /** The data directory cannot be used as it is: permissions, disk, owner, version, a missing part. */
  | "data_directory"
  /** PostgreSQL did not start, or did not stop, in time or at all. */
  | "process";

/** Why the embedded PostgreSQL cannot be used. The message is for the operator: it says what to do, and no secret. */
export class EmbeddedPostgresError extends Error {
  readonly kind: EmbeddedPostgresErrorKind;

  constructor(kind: EmbeddedPostgresErrorKind, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "EmbeddedPostgresError";
    this.kind = kind;
  }
}

/** What to put before PostgreSQL's own words when they tell of a full disk; `""` if they do not. */
export function diskFullHint(output: string): string {
  const isFull = /No space left on device|Disk quota exceeded|Check free disk space/.test(output);
  return isFull ? " The disk is full: free some space." : "";
}

const advice: Record<string, string> = {
  ENOSPC: "the disk is full: free some space",
  EDQUOT: "the disk quota is used up: free some space",
  EROFS: "the file system is read-only: set POSTHORN_DATA_DIR to a writable directory",
  EACCES: "permission denied: give this user the directory, or set POSTHORN_DATA_DIR to another one",
  EPERM: "not permitted: give this user the directory, or set POSTHORN_DATA_DIR to another one",
  // What Node says of a directory that cannot be made on a read-only file system.
  ENOENT: "it cannot be made: make it by hand, or set POSTHORN_DATA_DIR to a writable directory",
  ENOTDIR: "a part of the path is a file: set POSTHORN_DATA_DIR to a directory",
};

/** Runs file work in `path` and turns the faults an operator can mend into an error that says how. */
export async function explainFileErrors<Result>(path: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    const hint = advice[(error as NodeJS.ErrnoException).code ?? ""];
    if (hint === undefined) throw error;
    throw new EmbeddedPostgresError(
      "data_directory",
      `Cannot prepare PostgreSQL in ${path}: ${hint}.`,
      error,
    );
  }
}
