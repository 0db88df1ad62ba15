/**
 * Settings of the embedded PostgreSQL: for one gateway on a small machine, and for tables that work as queues.
 * They are a file beside the data directory, written anew at every start. `ALTER SYSTEM` wins over it.
 */

/** Name of the file, beside the data directory. */
export const settingsFile = "posthorn.conf";

const settings: Record<string, string> = {
  // Loopback TCP rather than a Unix socket: psql and every other client connects to it by URL, it is the same on all
  // platforms, and the path of a socket may have no more than about 100 characters. Who connects needs the password.
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "100",

  shared_buffers: "256MB",
  effective_cache_size: "1GB",
  work_mem: "8MB",
  maintenance_work_mem: "64MB",
  huge_pages: "off",

  // An acknowledged event is on disk.
  fsync: "on",
  synchronous_commit: "on",
  full_page_writes: "on",
  // A long way between checkpoints: each one makes the next write of every page a full page. These builds have
  // neither lz4 nor zstd, and pglz would cost more processor than the disk it saves.
  wal_compression: "off",
  max_wal_size: "2GB",
  min_wal_size: "256MB",
  checkpoint_timeout: "15min",

  // Short queries on few cores: neither compiling nor spreading them over processes pays. Parallel queries would also
  // need more /dev/shm than a container has.
  jit: "off",
  max_parallel_workers_per_gather: "0",
  max_parallel_maintenance_workers: "0",
  random_page_cost: "1.1",

  // Rows of queue tables change several times within minutes: vacuum early, in small portions, often.
  autovacuum_naptime: "10s",
  autovacuum_vacuum_scale_factor: "0.05",
  autovacuum_vacuum_insert_scale_factor: "0.1",
  autovacuum_analyze_scale_factor: "0.05",
  autovacuum_vacuum_cost_limit: "1000",
  // Few statements are planned by statistics, and none by fine ones; to gather them reads rows in proportion.
  default_statistics_target: "20",

  // The server's own affairs and what ends a connection. Failed statements are the gateway's to log: here they would
  // let the file grow without bound, and show values that belong to no log.
  log_min_messages: "log",
  log_min_error_statement: "panic",
  log_error_verbosity: "terse",
  log_checkpoints: "off",
  log_line_prefix: "%m [%p] ",
  log_timezone: "UTC",
  timezone: "UTC",
  lc_messages: "C",
};

/** Content of the settings file; `changes` replaces or adds single settings. */
export function formatSettings(changes: Record<string, string>): string {
  const lines = Object.entries({ ...settings, ...changes }).map(
    ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`,
  );
  return `# Written by Posthorn at every start. To change a setting for good, use ALTER SYSTEM.\n${lines.join("\n")}\n`;
}
