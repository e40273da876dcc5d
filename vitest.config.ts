import { defineConfig } from "vitest/config";
import { LongestFirst } from "./test/support/longest-first.js";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/global-setup.ts"],
    // Waits in tests have limits of their own; these are for a test that hangs.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    teardownTimeout: 30_000,
    // More than the two cores that there are at least: most files wait a good deal for servers of their own. With four of them
    // a quarter of the processors' time was left.
    maxWorkers: 5,
    pool: "forks",
    // A worker keeps the modules of src, and the libraries, for its next file. So no file may leave anything behind in
    // them, nor in the process: what has a state is made anew by each test.
    isolate: false,
    sequence: { sequencer: LongestFirst },
  },
});
