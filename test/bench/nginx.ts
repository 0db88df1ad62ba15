/** nginx as an endpoint, with files and settings of its own. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import http from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { stopChild } from "./children.ts";
import type { CountingEndpoint } from "./endpoint.ts";

const startBoundMs = 10_000;

/** Null if there is no nginx on the PATH, or none that can count its requests. */
export async function openNginx(directory: string): Promise<CountingEndpoint | null> {
  const asked = spawnSync("nginx", ["-V"], { encoding: "utf8" });
  if (asked.error || !asked.stderr.includes("--with-http_stub_status_module")) return null;
  const port = await findFreePort();
  await writeFile(join(directory, "nginx.conf"), formatSettings(port));
  const child = spawn("nginx", ["-p", directory, "-c", "nginx.conf", "-e", "error.log"], {
    stdio: "inherit",
  });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  // Each look is a request too, and is counted with the others.
  let lookCount = 0;
  const look = async () => {
    const count = await readRequestCount(port, agent);
    lookCount += 1;
    return count - lookCount;
  };
  try {
    await waitUntilUp(child, look);
  } catch (error) {
    await stopChild(child);
    throw error;
  }
  return {
    name: /nginx\/\S+/.exec(asked.stderr)?.[0] ?? "nginx",
    url: `http://127.0.0.1:${port}`,
    pid: child.pid!,
    arrivedCount: look,
    async close() {
      agent.destroy();
      await stopChild(child);
    },
  };
}

function formatSettings(port: number): string {
  const isRoot = process.getuid?.() === 0;
  return `
    daemon off;
    ${isRoot ? "user root;" : ""}
    worker_processes 1;
    worker_rlimit_nofile 16384;
    pid nginx.pid;
    error_log error.log crit;
    events { worker_connections 8192; }
    http {
      access_log off;
      client_body_temp_path body;
      proxy_temp_path proxy;
      fastcgi_temp_path fastcgi;
      uwsgi_temp_path uwsgi;
      scgi_temp_path scgi;
      keepalive_requests 1000000000;
      server {
        listen 127.0.0.1:${port} backlog=1024;
        location / { return 200; }
        location = /requests { stub_status; }
      }
    }`;
}

/** It takes no port 0. Somebody else may take the port before it does; then it does not start. */
async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function waitUntilUp(child: ChildProcess, look: () => Promise<number>): Promise<void> {
  const endMs = Date.now() + startBoundMs;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`nginx ended with code ${child.exitCode}`);
    try {
      await look();
      return;
    } catch (error) {
      if (Date.now() > endMs) throw new Error("nginx did not start", { cause: error });
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The third number of the line that follows `server accepts handled requests`. */
function readRequestCount(port: number, agent: http.Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = http.get(
      { host: "127.0.0.1", port, path: "/requests", agent, timeout: 5_000 },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () => {
          const found = /requests\s+\d+ \d+ (\d+)/.exec(text);
          if (found) resolve(Number(found[1]));
          else reject(new Error(`nginx told no number of requests: ${text.slice(0, 200)}`));
        });
      },
    );
    request.on("timeout", () => request.destroy(new Error("nginx told nothing within 5 s")));
    request.on("error", reject);
  });
}
