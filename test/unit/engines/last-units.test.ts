import { describe, expect, test } from "vitest";
import { DeadlinePassed, Overloaded } from "../../../src/domain/refusal.js";
import { LastUnits } from "../../../src/issuing/last-units.js";
import type { IssueRequest, IssueResult } from "../../../src/storage/ports/issues.js";
import { requestOf } from "./gate.js";

const farMs = Date.now() + 3_600_000;
const replayed: IssueResult = { outcome: "REPLAYED", userCouponId: "earlier" };
const refused: IssueResult = { outcome: "REFUSED", reason: "REQUEST_ID_REUSED" };
const wanted: IssueRequest = requestOf("coupon");

/** `stocks`: what Postgres has left, from read to read; the last one stays. `known`: request ids that have issued. */
function openLastUnits(stocks: readonly (number | null)[], known: readonly string[] = []) {
  const seen = { reads: 0, asked: 0, yielded: 0 };
  const units = new LastUnits(
    {
      readStock: async () => {
        seen.reads += 1;
        return stocks[Math.min(seen.reads, stocks.length) - 1] ?? null;
      },
    },
    {
      findEarlierIssue: async (requestId) =>
        known.includes(requestId) ? { userId: "user", couponId: "coupon", type: null, code: null } : null,
    },
  );
  const decide = (pauses: number, request = wanted, result: IssueResult = refused, deadlineMs = farMs) =>
    units.decide(
      request,
      async () => {
        seen.asked += 1;
        return result;
      },
      {
        pauses,
        deadlineMs,
        yieldPermit: async (wait) => {
          seen.yielded += 1;
          return await wait();
        },
      },
    );
  return { units, seen, decide };
}

describe("while others have the last units", () => {
  test.for([
    ["SOLD_OUT when Postgres has nothing left", wanted, "SOLD_OUT"],
    ["CODE_TAKEN when one code was wanted", { ...wanted, codeId: 7 }, "CODE_TAKEN"],
  ] as const)("%s, and it is not asked for this request", async ([_, request, reason]) => {
    const { seen, decide } = openLastUnits([0]);
    expect(await decide(0, request)).toEqual({ outcome: "REFUSED", reason });
    expect(seen).toEqual({ reads: 1, asked: 0, yielded: 0 });
  });

  test("a call waits without its permit, looks again, and is sent to the gate once more", async () => {
    const { seen, decide } = openLastUnits([1]);
    expect(await decide(0)).toBe("PAUSED");
    expect(await decide(1)).toBe("PAUSED");
    expect(seen).toEqual({ reads: 3, asked: 0, yielded: 2 });
  });

  test("what is gone after the pause is gone", async () => {
    const { decide } = openLastUnits([1, 0]);
    expect(await decide(0)).toEqual({ outcome: "REFUSED", reason: "SOLD_OUT" });
  });

  test.each([[1], [null]])("nobody is told SOLD_OUT while Postgres says %s", async (stock) => {
    const { decide } = openLastUnits([stock]);
    expect(await decide(0)).toBe("PAUSED");
  });

  test("after some pauses Postgres is asked, for one code at once", async () => {
    const { seen, decide } = openLastUnits([1]);
    expect(await decide(4)).toBe(refused);
    expect(await decide(0, { ...wanted, codeId: 7 })).toBe(refused);
    expect(seen.asked).toBe(2);
  });

  test("Postgres has no tickets to give: a throttled coupon goes on waiting", async () => {
    const { decide } = openLastUnits([1]);
    expect(await decide(4, wanted, { outcome: "TICKET_NEEDED" })).toBe("PAUSED");
  });

  test("a request that got one past the gate is told of it, and no other", async () => {
    const { seen, decide } = openLastUnits([0], ["mine"]);
    expect(await decide(0, { ...wanted, requestId: "mine" }, replayed)).toBe(replayed);
    expect(await decide(0, { ...wanted, requestId: "other" })).toEqual({ outcome: "REFUSED", reason: "SOLD_OUT" });
    expect(seen.asked).toBe(1);
  });

  test("the waiting ends: with the caller's time, or when it has been long enough", async () => {
    const { decide } = openLastUnits([1]);
    await expect(decide(0, wanted, refused, Date.now() + 1)).rejects.toBeInstanceOf(DeadlinePassed);
    await expect(decide(20)).rejects.toBeInstanceOf(Overloaded);
  });

  test("no more than 64 ask Postgres at once; the others wait", async () => {
    const { units } = openLastUnits([1]);
    let asked = 0;
    let answer: () => void = () => {};
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const ask = async () => {
      asked += 1;
      await answered;
      return refused;
    };
    const call = { pauses: 4, deadlineMs: farMs, yieldPermit: async <T>(wait: () => Promise<T>) => await wait() };
    const calls = Array.from({ length: 70 }, () => units.decide(wanted, ask, call));
    const paused = await Promise.all(calls.slice(64));
    expect([asked, paused]).toEqual([64, Array(6).fill("PAUSED")]);
    answer();
    expect(await Promise.all(calls.slice(0, 64))).toEqual(Array(64).fill(refused));
    expect(await units.decide(wanted, ask, call)).toBe(refused);
  });
});
