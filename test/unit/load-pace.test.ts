import { expect, test } from "vitest";
import { LoadPace } from "../../src/issuing/load-pace.js";

/** A clock that stands still but for what the test says and for rests. */
function world() {
  let nowMs = 1_000;
  const rests: number[] = [];
  const pace = new LoadPace({
    nowMs: () => nowMs,
    sleep: async (ms) => {
      rests.push(ms);
      nowMs += ms;
    },
  });
  const rest = pace.begin("loading");
  return {
    ...{ pace, rest, rests },
    work: (ms: number) => {
      nowMs += ms;
    },
    issue: (couponId: string, count: number) => pace.decided(Array.from({ length: count }, () => ({ couponId }))),
  };
}

test("rests twice as long as it has worked while others issue, so it has a third of the time", async () => {
  const { rest, rests, work, issue } = world();
  for (const ms of [30, 60]) {
    issue("other", 80);
    work(ms);
    await rest();
  }
  expect(rests).toEqual([60, 120]);
});

test("does not rest while nobody issues, while only the coupon itself is issued, or for a few of others", async () => {
  const { rest, rests, work, issue } = world();
  work(100);
  await rest();
  issue("loading", 5_000);
  issue("other", 3);
  work(100);
  await rest();
  expect(rests).toEqual([]);
});

test("works at full speed again half a second after the others have ended", async () => {
  const { rest, rests, work, issue } = world();
  issue("other", 80);
  work(240);
  await rest();
  expect(rests).toEqual([480]);
  work(30);
  await rest();
  expect(rests).toEqual([480]);
});

test("what is too short to rest after is added up; no rest is long", async () => {
  const { rest, rests, work, issue } = world();
  issue("other", 80);
  for (const ms of [4, 4, 4]) {
    work(ms);
    await rest();
  }
  expect(rests).toEqual([24]);
  issue("other", 80);
  work(200);
  issue("other", 80);
  work(1_800);
  issue("other", 80);
  await rest();
  expect(rests).toEqual([24, 1_000]);
});
