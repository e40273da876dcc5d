/**
 * npm run test:model -- [--runs 1000] [--seed N] [--gate redis|memory] [--path P] [--counts]
 *
 * Holds the service against the model of test/model for long: --runs lives on each gate (or on one). The seed of a run
 * that fails is in its message, together with the command that shows it again. --counts says in the end how often each
 * call had each outcome: what never occurs is not tested.
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { root } from "./build.mjs";

const defaultRuns = 300;
const gates = ["redis", "memory"];

function settings() {
  const options = Object.fromEntries(["runs", "seed", "gate", "path"].map((name) => [name, { type: "string" }]));
  options.counts = { type: "boolean" };
  const { runs = String(defaultRuns), seed, gate, path, counts } = parseArgs({ options }).values;
  for (const [name, value] of Object.entries({ runs, seed })) {
    if (value !== undefined && !/^-?\d+$/.test(value)) throw new Error(`--${name} must be a whole number`);
  }
  if (gate !== undefined && !gates.includes(gate)) throw new Error(`--gate must be ${gates.join(" or ")}`);
  if (path !== undefined && (seed === undefined || gate === undefined)) {
    throw new Error("--path names one life of a --seed on a --gate: both are needed");
  }
  return { runs, seed, gate, path, counts };
}

try {
  const { runs, seed, gate, path, counts } = settings();
  const files = (gate === undefined ? gates : [gate]).map((one) => `test/model/${one}.model.test.ts`);
  Object.assign(process.env, {
    MODEL_RUNS: runs,
    ...(seed && { MODEL_SEED: seed }),
    ...(path && { MODEL_PATH: path }),
    ...(counts && { MODEL_COUNTS: "yes" }),
  });
  // In this process, so that whoever stops it stops the tests as well.
  const vitest = join(root, "node_modules/vitest/vitest.mjs");
  process.chdir(root);
  process.argv = [process.execPath, vitest, "run", ...files];
  await import(pathToFileURL(vitest).href);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
