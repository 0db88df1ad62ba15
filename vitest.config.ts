import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "./test/helpers/global-setup.ts",
    // Processes rather than threads: tests start worker threads of their own and send signals.
    pool: "forks",
    // Real servers and threads share the cores with the tests; more at once only makes them wait for each other.
    maxWorkers: 2,
    testTimeout: 20_000,
    hookTimeout: 60_000,
    teardownTimeout: 60_000,
    dangerouslyIgnoreUnhandledErrors: false,
    reporters: ["default", "./test/helpers/closing-line.ts"],
  },
});
