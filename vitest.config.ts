import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/global-setup.ts"],
    // Waits in tests have limits of their own; these are for a test that hangs.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    teardownTimeout: 30_000,
    // Two cores, and each file may start servers of its own.
    maxWorkers: 2,
    pool: "forks",
  },
});
