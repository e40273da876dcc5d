import { expect, test } from "vitest";
import type { CodeJob } from "../../src/domain/code.js";
import type { Coupon } from "../../src/domain/coupon.js";
import { CodeGenerator } from "../../src/jobs/code-generator.js";

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
    const failed = (_: string, error: unknown) => expect(error).toBeUndefined();
    await new CodeGenerator(store, { invalidate: async () => {} }, { info: () => {} }, { failed }).run();
    expect(running).toEqual([]);
  },
);
