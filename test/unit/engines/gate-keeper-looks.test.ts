import { randomUUID } from "node:crypto";
import { describe, expect, test, vi } from "vitest";
import { GateKeeper } from "../../../src/issuing/gate-keeper.js";
import { MemoryGate } from "../../../src/reservation/memory/memory-gate.js";
import { leastBuckets } from "../../../src/reservation/packed-holdings.js";
import type { IssueStore, StoredCounts } from "../../../src/storage/ports/issues.js";
import { unreported } from "../../support/unreported.js";

const stored: StoredCounts = {
  revision: 1,
  updatedAt: new Date(0),
  stock: 5,
  remainingPlaces: null,
  givenBackTotal: 0,
};

/** A gate with one coupon of five, a keeper, and a Postgres that answers as the test says. */
async function world() {
  let offsetMs = 0;
  let answer: () => StoredCounts | undefined = () => stored;
  const asked: string[][] = [];
  const gate = new MemoryGate({ now: () => Date.now() + offsetMs });
  const store = {
    readCounts: async (ids: readonly string[]) => {
      asked.push([...ids]);
      return new Map(ids.flatMap((id) => [[id, answer()] as const]).filter(([, stock]) => stock));
    },
  };
  const keeper = new GateKeeper(
    gate,
    store as unknown as IssueStore,
    { findUsed: async () => new Set() },
    { info: () => {} },
    unreported,
    // What is dropped stays so until the test loads it.
    0,
  );
  const couponId = randomUUID();
  const load = async () => {
    const loading = await gate.beginLoad(couponId);
    await loading?.install({
      ...{ revision: 1, updatedAt: stored.updatedAt, paused: false, deleted: false, exhausted: false, maxPerUser: 1 },
      ...{ stock: 5, givenBackTotal: 0, throttle: null, quota: null, bucketCount: leastBuckets },
      ...{ startsAt: new Date(0), expiresAt: new Date(Date.now() + 99 * 3_600_000) },
    });
  };
  await load();
  return {
    ...{ gate, keeper, couponId, asked, load },
    answers: (given: typeof answer) => {
      answer = given;
    },
    advance: (ms: number) => {
      offsetMs += ms;
    },
  };
}

test("a coupon that agrees with Postgres is not asked about again until its pause is over", async () => {
  const { keeper, asked, advance, couponId } = await world();
  for (let n = 0; n < 5; n++) await keeper.sweep();
  expect(asked).toEqual([[couponId]]);
  advance(7_000);
  for (let n = 0; n < 5; n++) await keeper.sweep();
  expect(asked).toHaveLength(2);
});

test("one that differs is looked at in the next round, and dropped", async () => {
  const { keeper, asked, answers, gate } = await world();
  answers(() => ({ ...stored, stock: 4 }));
  await keeper.sweep();
  await keeper.sweep();
  expect(asked).toHaveLength(2);
  expect((await gate.survey(10, 0)).filter(({ loaded }) => loaded)).toEqual([]);
});

test("a copy of another edit that has got the same revision is dropped at once", async () => {
  const { keeper, answers, gate } = await world();
  answers(() => ({ ...stored, updatedAt: new Date(stored.updatedAt.getTime() + 1) }));
  await keeper.sweep();
  expect((await gate.survey(10, 0)).filter(({ loaded }) => loaded)).toEqual([]);
});

describe("what was given back that the gate never heard of", () => {
  const isLoaded = async ({ gate }: Awaited<ReturnType<typeof world>>) =>
    (await gate.survey(10, 0)).some(({ loaded }) => loaded);

  test("is looked for in the next round, and the copy is dropped", async () => {
    const one = await world();
    one.answers(() => ({ ...stored, givenBackTotal: 1 }));
    await one.keeper.sweep();
    expect(await isLoaded(one)).toBe(true);
    await one.keeper.sweep();
    expect(await isLoaded(one)).toBe(false);
  });

  test("is found while more is given back all the time, and more is reserved", async () => {
    const one = await world();
    let givenBackTotal = 1;
    one.answers(() => ({ ...stored, givenBackTotal }));
    for (; givenBackTotal < 3; givenBackTotal++) {
      const request = {
        couponId: one.couponId,
        userId: `user-${givenBackTotal}`,
        requestId: "",
        userCouponId: randomUUID(),
      };
      expect((await one.gate.admit(request)).outcome).toBe("RESERVED");
      if (givenBackTotal > 1) await one.gate.settle([{ ...request, outcome: "RETURN", givenBackNo: givenBackTotal }]);
      await one.keeper.sweep();
    }
    expect(await isLoaded(one)).toBe(false);
  });

  test("is not what is heard of a round later, however often that happens", async () => {
    const one = await world();
    const dropped = vi.spyOn(one.gate, "invalidate");
    for (let heard = 0; heard < 20; heard++) {
      one.answers(() => ({ ...stored, givenBackTotal: heard + 2 }));
      await one.keeper.sweep();
      const request = { couponId: one.couponId, userId: "user", requestId: "", userCouponId: randomUUID() };
      await one.gate.settle([{ ...request, outcome: "FREE", givenBackNo: heard + 1 }]);
    }
    expect(dropped).not.toHaveBeenCalled();
  });

  test("never has a copy loaded anew again soon, whatever is wrong with the numbers", async () => {
    const one = await world();
    const dropped = vi.spyOn(one.gate, "invalidate");
    one.answers(() => ({ ...stored, givenBackTotal: 1 }));
    for (let n = 0; n < 20; n++) {
      await one.keeper.sweep();
      if (!(await isLoaded(one))) await one.load();
    }
    expect(dropped).toHaveBeenCalledTimes(1);
    expect(await isLoaded(one)).toBe(true);
    // What else differs is found all the same.
    one.advance(7_000);
    one.answers(() => ({ ...stored, stock: 4, givenBackTotal: 1 }));
    for (let n = 0; n < 2; n++) await one.keeper.sweep();
    expect(dropped).toHaveBeenCalledTimes(2);
  });
});

test("one that could not be compared, because Postgres was away, is looked at in the next round", async () => {
  const { keeper, asked, answers } = await world();
  answers(() => {
    throw new Error("away");
  });
  for (let n = 0; n < 3; n++) await expect(keeper.sweep()).rejects.toThrow("away");
  expect(asked).toHaveLength(3);
  answers(() => stored);
  for (let n = 0; n < 3; n++) await keeper.sweep();
  expect(asked).toHaveLength(4);
});

test("after more than an hour without a caller it leaves, and Postgres is asked nothing more", async () => {
  const { keeper, asked, advance, gate } = await world();
  for (const pauseMs of [0, 7_000, 601_000, 3_601_000, 3_601_000, 3_601_000]) {
    advance(pauseMs);
    await keeper.sweep();
  }
  expect(asked).toHaveLength(4);
  expect(await gate.survey(10, 0)).toEqual([]);
});

test("a copy that cannot be dropped keeps no other coupon from being looked at, and is dropped when it can be", async () => {
  const { keeper, asked, gate, couponId } = await world();
  const elsewhere = randomUUID();
  const invalidate = gate.invalidate.bind(gate);
  const dropped: string[] = [];
  let isAway = true;
  gate.invalidate = async (id) => {
    if (id === elsewhere && isAway) throw new Error("its server is away");
    dropped.push(id);
    await invalidate(id);
  };
  await keeper.invalidate(elsewhere);
  await keeper.sweep();
  expect(asked).toEqual([[couponId]]);
  expect(dropped).toEqual([]);
  isAway = false;
  await keeper.sweep();
  await keeper.sweep();
  expect(dropped).toEqual([elsewhere]);
});
