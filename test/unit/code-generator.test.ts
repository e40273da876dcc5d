import { expect, test } from "vitest";
import type { CodeJob, NewCode } from "../../src/domain/code.js";
import { type CodePattern, parsePattern } from "../../src/domain/code-pattern.js";
import type { Coupon } from "../../src/domain/coupon.js";
import { CodeGenerator } from "../../src/jobs/code-generator.js";

const failed = (_: string, error: unknown) => expect(error).toBeUndefined();

/** Of `pattern`, a store in which all codes are taken, and so many jobs that all the same want some. They are worked on in turn. */
function takenStore(jobCount: number, pattern: string, count: number, maxBatches: number) {
  const book = { codeBook: { exactMatch: false }, isTypePool: false } as Coupon;
  const terms = { discount: null, expiresAt: null, maxUses: null, maxHolders: 1 };
  const running = Array.from({ length: jobCount }, (_, n) => ({
    id: `job ${n}`,
    couponId: "book",
    pattern,
    terms,
    count,
  }));
  let batches = 0;
  const store: ConstructorParameters<typeof CodeGenerator>[0] = {
    async addGenerated(generate) {
      const one = running.shift();
      if (!one || ++batches > maxBatches) return null;
      const job: CodeJob = { ...one, madeCount: 0, createdAt: new Date(0), endedAt: null, failure: null };
      const generated = await generate(job, book);
      if (generated.length > 0) running.push(one);
      return { job: generated.length > 0 ? job : { ...job, endedAt: new Date(1) }, addedCount: 0 };
    },
  };
  return { store, running };
}

test.each([
  // Gone through in an order, 36 batches and the one that ends it.
  ["???#", 150_000, 37],
  // Tried at random, 20 batches and the one that ends it.
  ["?{12}", 150_000, 21],
])(
  "many jobs at once come to the end of a pattern of which all codes are taken: %s",
  async (pattern, count, batches) => {
    const jobCount = 6;
    const { store, running } = takenStore(jobCount, pattern, count, jobCount * batches);
    await new CodeGenerator(store, { invalidate: async () => {} }, { info: () => {} }, { failed }).run();
    expect(running).toEqual([]);
  },
);

test("where nearly all codes are taken, each is tried, also for a job that wants few", async () => {
  const { store } = takenStore(1, "???#", 1_000, 40);
  const tried = new Set<string>();
  const addGenerated: typeof store.addGenerated = (generate) =>
    store.addGenerated(async (job, book) => {
      const codes = await generate(job, book);
      for (const { key } of codes) tried.add(key);
      return codes;
    });
  await new CodeGenerator({ addGenerated }, { invalidate: async () => {} }, { info: () => {} }, { failed }).run();
  expect(tried.size).toBe((parsePattern("???#") as CodePattern).capacity);
});

test("codes of a type's pool are picked in the order in which they expire", async () => {
  const made: (readonly NewCode[])[] = [];
  const days = [2, 1];
  const store: ConstructorParameters<typeof CodeGenerator>[0] = {
    async addGenerated(generate) {
      const day = days.shift();
      if (day === undefined) return null;
      const terms = { discount: null, expiresAt: new Date(Date.UTC(2030, 0, day)), maxUses: null, maxHolders: 1 };
      const job = { ...{ id: `job ${day}`, couponId: "pool", pattern: "?{12}", terms, count: 100, madeCount: 0 } };
      const whole: CodeJob = { ...job, createdAt: new Date(0), endedAt: null, failure: null };
      made.push(await generate(whole, { codeBook: { exactMatch: false }, isTypePool: true } as Coupon));
      return { job: { ...whole, endedAt: new Date(1) }, addedCount: 100 };
    },
  };
  await new CodeGenerator(store, { invalidate: async () => {} }, { info: () => {} }, { failed }).run();
  const [later, sooner] = made.map((codes) => codes.map(({ pickKey }) => pickKey)) as [number[], number[]];
  expect(Math.max(...sooner)).toBeLessThan(Math.min(...later));
});
