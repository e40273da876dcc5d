import fc from "fast-check";
import { afterAll, beforeAll, describe, test } from "vitest";
import { lives } from "./chapters.js";
import type { Command } from "./commands.js";
import { Life } from "./life.js";
import { countsOfOutcomes } from "./outcomes.js";
import { type GateName, type Service, startService } from "./service.js";

/** `npm run test:model` sets these; see scripts/model.mjs. */
const runs = Number(process.env.MODEL_RUNS ?? 10);
const seed = Number(process.env.MODEL_SEED ?? Math.trunc(Math.random() * 2 ** 31));
const path = process.env.MODEL_PATH;
/** Lives in one database. Their coupons stay known in the gate for a while, and a sweep looks at 500 of them. */
const maxLives = 100;
/** What the shortest failing life may take to find. */
const shrinkMs = Number(process.env.MODEL_SHRINK_MS ?? 60_000);

/** MODEL_RUNS lives on one gate, each against the model. A failure says how to see it again. */
export function livesGoAsTheModelSays(gate: GateName): void {
  describe(`with the gate in ${gate}`, () => {
    let service: Service;
    beforeAll(async () => {
      service = await startService(gate);
    });
    afterAll(() => service.close());

    test("any life of user coupons goes as the model says", { timeout: shrinkMs * 2 + runs * 2_000 }, async () => {
      let stopAtMs = Number.POSITIVE_INFINITY;
      let last: unknown;
      let lived = 0;
      let livesHere = 0;
      const property = fc.asyncProperty(lives, async (commands) => {
        // Past the time for shrinking every shorter life counts as good, which ends it.
        if (Date.now() > stopAtMs) return;
        // After the life that a path names, fast-check goes on with those beside it.
        if (path !== undefined && lived++ > 0) return;
        if (++livesHere > maxLives) {
          await service.close();
          service = await startService(gate);
          livesHere = 1;
        }
        try {
          await new Life(service).live(commands);
        } catch (error) {
          stopAtMs = Math.min(stopAtMs, Date.now() + shrinkMs);
          last = error;
          throw error;
        }
      });
      const replay = path !== undefined && { path, endOnFailure: true };
      const found = await fc.check(property, { numRuns: runs, seed, ...replay });
      if (process.env.MODEL_COUNTS) process.stdout.write(`${countsOfOutcomes()}\n`);
      if (!found.failed) return;
      throw new Error(
        report(gate, found.counterexample?.[0] ?? [], found.counterexamplePath, found.errorInstance ?? last),
      );
    });
  });
}

function report(gate: GateName, life: readonly Command[], shortest: string | null, cause: unknown): string {
  const command = `npm run test:model -- --gate ${gate} --seed ${seed} --runs ${runs}`;
  return [
    cause instanceof Error ? cause.message : String(cause),
    "",
    `The shortest failing life that was found, with seed ${seed}:`,
    ...life.map((one) => `  ${JSON.stringify(one)}`),
    "",
    "To see it again:",
    `  ${command}${shortest ? ` --path ${shortest}` : ""}`,
    "All lives of this run:",
    `  ${command}`,
    "Calls that are made at once may come in another order, and then all may go well.",
  ].join("\n");
}
