import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { IssuanceService } from "../../../gen/coupon/v1/issuance_service_pb.js";
import { CallerRates } from "../../../src/auth/limits/caller-rates.js";
import { SharedCount, type SharedCounts } from "../../../src/auth/limits/shared-count.js";
import { pauseMs, WrongCodes } from "../../../src/auth/limits/wrong-codes.js";
import { readCallerLimits, usualLimits } from "../../../src/domain/caller-limits.js";
import { type Principal, scopes } from "../../../src/domain/principal.js";
import { Refusal } from "../../../src/domain/refusal.js";
import type { Failure } from "../../../src/transport/error-table.js";
import { Pipeline } from "../../../src/transport/pipeline.js";
import { messageValidator } from "../../../src/transport/validator.js";
import { followDate } from "../../support/steady-clock.js";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date"] });
  return followDate();
});
afterEach(() => void vi.useRealTimers());
const pass = (ms: number) => vi.setSystemTime(Date.now() + ms);

const caller = (id: string, limits?: Principal["limits"]): Principal => ({
  id,
  scopes: new Set(scopes),
  ...(limits && { limits }),
});
const anna = caller("key:anna");
const issueLimits = (perSecond: number, atOnce: number) => ({ ...usualLimits, issue: { perSecond, atOnce } });

function rates(perSecond: number, atOnce: number) {
  const limited: string[] = [];
  const of = new CallerRates({
    limits: issueLimits(perSecond, atOnce),
    onLimited: (...one) => limited.push(one.join()),
  });
  /** How many of so many calls begin; each is over at once. */
  const letIn = (count: number, who = anna, kind: "issue" | "use" = "issue") => {
    let begun = 0;
    for (let n = 0; n < count; n++) {
      const one = of.begin(who, kind);
      if (one instanceof Refusal) continue;
      one.end();
      begun += 1;
    }
    return begun;
  };
  return { of, letIn, limited };
}

describe("calls a second", () => {
  test("belong to one caller and one kind, and come back when the second is over", () => {
    const { of, letIn, limited } = rates(5, 100);
    expect(letIn(5)).toBe(5);
    pass(400);
    const refusal = of.begin(anna, "issue") as Refusal;
    expect([refusal.reason, refusal.detail.retryAfterMs, refusal.detail.facts]).toEqual([
      "RATE_LIMITED",
      600,
      { kind: "issue", limit: "rate" },
    ]);
    expect([letIn(3), letIn(3, anna, "use"), letIn(9, caller("key:bert"))]).toEqual([0, 3, 5]);
    pass(599);
    expect(letIn(1)).toBe(0);
    pass(1);
    expect(letIn(9)).toBe(5);
    expect(new Set(limited)).toEqual(new Set(["issue,rate"]));
  });

  test("may be other ones for one caller", () => {
    const { letIn } = rates(5, 100);
    expect(letIn(20, caller("key:large", { issue: { perSecond: 12 } }))).toBe(12);
    expect(letIn(20, caller("key:other", { use: { perSecond: 12 } }))).toBe(5);
  });
});

test("calls at once are those that have not ended", () => {
  const { of, limited } = rates(1_000, 2);
  const [first] = [of.begin(anna, "issue"), of.begin(anna, "issue")];
  const third = of.begin(anna, "issue") as Refusal;
  expect([third.reason, third.detail.facts]).toEqual(["RATE_LIMITED", { kind: "issue", limit: "at_once" }]);
  expect(third.detail.retryAfterMs).toBeGreaterThan(0);
  expect(of.begin(caller("key:bert"), "issue")).not.toBeInstanceOf(Refusal);
  if (!(first instanceof Refusal)) first?.end();
  expect(of.begin(anna, "issue")).not.toBeInstanceOf(Refusal);
  expect(limited).toEqual(["issue,at_once"]);
});

describe("the pipeline", () => {
  const open = (atOnce: number, principal: Principal) =>
    new Pipeline({
      ...{ log: { info: () => {}, error: () => {} }, metrics: { observe: () => {} }, validator: messageValidator() },
      ...{ defaultDeadlineMs: 15_000, maxDeadlineMs: 30_000, isServing: () => true },
      authenticator: { authenticate: () => principal },
      rates: rates(1_000, atOnce).of,
    });
  const { issueCoupon } = IssuanceService.method;
  const target = { case: "couponId" as const, value: "0192f3a0-0000-7000-8000-000000000000" };
  let decoded = 0;
  const call = () => ({
    ...{ frontEnd: "grpc" as const, header: () => undefined, deadlineMs: Number.POSITIVE_INFINITY },
    permit: { begin: () => true, end: () => {}, yield: <T>(wait: () => Promise<T>) => wait() },
    decode: () => {
      decoded += 1;
      return create(issueCoupon.input, { target, userId: "u" });
    },
  });

  test("refuses before it decodes, and counts a call until its handler is done", async () => {
    decoded = 0;
    let finish = () => {};
    const held = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const invoke = open(1, anna).mount(issueCoupon, () => held.then(() => new Refusal("SOLD_OUT")));
    const first = invoke(call(), () => {});
    const second = (await invoke(call(), () => {})) as Failure;
    expect([second.reason, decoded]).toEqual(["RATE_LIMITED", 1]);
    expect(second.retryAfterMs).toBeGreaterThan(0);
    finish();
    expect(((await first) as Failure).reason).toBe("SOLD_OUT");
    expect(((await invoke(call(), () => {})) as Failure).reason).toBe("SOLD_OUT");
  });

  test("counts nothing of a call that is refused before its handler", async () => {
    const invoke = open(1, anna).mount(issueCoupon, async () => new Refusal("SOLD_OUT"));
    const wrong = { ...call(), decode: () => create(issueCoupon.input, { target, userId: "" }) };
    expect(((await invoke(wrong, () => {})) as Failure).reason).toBe("INVALID_FIELD");
    expect(((await invoke(call(), () => {})) as Failure).reason).toBe("SOLD_OUT");
  });

  test("tells who lacks the scope so, and not that it asks too often", async () => {
    const invoke = open(1, {
      id: "key:reader",
      scopes: new Set(["usage.read"]),
      limits: { issue: { atOnce: 0 } },
    }).mount(issueCoupon, async () => new Refusal("SOLD_OUT"));
    expect(((await invoke(call(), () => {})) as Failure).reason).toBe("PERMISSION_DENIED");
  });
});

describe("what replicas count together", () => {
  /** Where each telling waits until it is answered. */
  function opened() {
    const told: { count: number; answer: (total: number | null) => Promise<void> }[] = [];
    const shared: SharedCounts = {
      add: (_key, count) =>
        new Promise((resolve) => {
          const answer = async (total: number | null) => {
            resolve(total === null ? null : { count: total, leftMs: 1_000 });
            await new Promise(setImmediate);
          };
          told.push({ count, answer });
        }),
    };
    const count = new SharedCount({ key: "k", windowMs: 1_000, shared });
    return {
      told,
      count,
      add: (tellEvery: number) => count.add(Date.now(), tellEvery),
      at: () => count.at(Date.now()),
    };
  }

  test("has what was counted here while the others were told", async () => {
    const { told, add, at } = opened();
    for (let n = 0; n < 4; n++) add(2);
    expect(told.map(({ count }) => count)).toEqual([2]);
    await told[0]!.answer(9);
    expect([told[1]?.count, at()]).toEqual([2, 11]);
    add(2);
    await told[1]!.answer(20);
    expect([told.length, at()]).toEqual([2, 21]);
  });

  test("lacks nothing of what could not be told: it is told with the next", async () => {
    const { told, add, at } = opened();
    add(1);
    await told[0]!.answer(null);
    expect([told.length, at()]).toEqual([1, 1]);
    add(1);
    expect(told[1]?.count).toBe(2);
  });
});

describe("wrong codes", () => {
  const open = () => new WrongCodes({ free: 3, onLimited: () => {} });
  /** What a call that names one code gets. */
  const guess = (of: WrongCodes, userId = "u", wrong = 1, who = anna) => {
    const end = of.begin(who, userId, 1, "issue");
    if (end instanceof Refusal) return end.detail.retryAfterMs;
    end(wrong);
    return "LOOKED_UP";
  };

  test("an end user is one, whatever the subject of the token; a service that names the same user is another", () => {
    const codes = open();
    const of = (session: number) => ({ ...anna, id: `jwt:issuer#session-${session}`, userId: "u" });
    for (let session = 0; session < 4; session++) expect(guess(codes, "u", 1, of(session))).toBe("LOOKED_UP");
    expect(guess(codes, "u", 1, of(4))).toBe(1_000);
    expect(guess(codes, "u", 1, anna)).toBe("LOOKED_UP");

    const limits = { ...usualLimits, use: { perSecond: 2, atOnce: 10 } };
    const rates = new CallerRates({ limits, onLimited: () => {} });
    const begun = [0, 1, 2].map((session) => rates.begin(of(session), "use") instanceof Refusal);
    expect(begun).toEqual([false, false, true]);
  });

  test.for([
    [0, 0],
    [10, 0],
    [11, 1_000],
    [12, 2_000],
    [15, 16_000],
    [19, 256_000],
    [20, 300_000],
    [5_000, 300_000],
  ])("after %i the pause is %i ms", ([count, ms]) => {
    expect(pauseMs(count!, 10)).toBe(ms);
  });

  test("of one user at one caller are followed by pauses that grow, and others have none", () => {
    const of = open();
    expect([1, 2, 3, 4].map(() => guess(of))).toEqual(Array(4).fill("LOOKED_UP"));
    expect(guess(of)).toBe(1_000);
    expect([guess(of, "other"), guess(of, "u", 1, caller("key:bert"))]).toEqual(["LOOKED_UP", "LOOKED_UP"]);
    pass(999);
    expect(guess(of)).toBe(1);
    pass(1);
    expect([guess(of), guess(of)]).toEqual(["LOOKED_UP", 2_000]);
  });

  test("are not forgotten for a right one, but ten minutes after the first", () => {
    const of = open();
    for (let n = 0; n < 4; n++) guess(of);
    pass(1_000);
    expect([guess(of, "u", 0), guess(of), guess(of)]).toEqual(["LOOKED_UP", "LOOKED_UP", 2_000]);
    pass(599_000);
    expect([1, 2, 3, 4, 5].map(() => guess(of))).toEqual([...Array(4).fill("LOOKED_UP"), 1_000]);
  });

  test("that come all at once are not looked up all at once", () => {
    const of = open();
    const begun = Array.from({ length: 1_000 }, () => of.begin(anna, "u", 1, "use"));
    const ends = begun.filter((one) => !(one instanceof Refusal));
    expect(ends).toHaveLength(3);
    for (const end of ends) if (!(end instanceof Refusal)) end(1);
    expect([guess(of), guess(of)]).toEqual(["LOOKED_UP", 1_000]);
  });

  test("that were wrong before leave room for fewer at once", () => {
    const of = open();
    for (let n = 0; n < 2; n++) guess(of);
    const begun = Array.from({ length: 10 }, () => of.begin(anna, "u", 1, "use"));
    expect(begun.filter((one) => !(one instanceof Refusal))).toHaveLength(1);
  });

  test("1,000 of them take a user weeks", () => {
    const of = open();
    const beganAt = Date.now();
    let lookedUp = 0;
    for (let n = 0; n < 1_000; n++) {
      const left = guess(of);
      if (left === "LOOKED_UP") lookedUp += 1;
      else pass(left as number);
    }
    const hours = (Date.now() - beganAt) / 3_600_000;
    // In ten minutes three that are free, and after them pauses of 1, 2, 4, ... 256 s.
    expect(lookedUp / hours).toBeLessThan(6 * 14);
  });
});

describe("the setting CALLER_LIMITS", () => {
  test("changes the kinds that it names", () => {
    expect(readCallerLimits("issue=500/100, use=20/5")).toEqual({
      ...usualLimits,
      issue: { perSecond: 500, atOnce: 100 },
      use: { perSecond: 20, atOnce: 5 },
    });
  });
  test.for(["", "issue", "issue=5", "issue=0/5", "issue=5/1000001", "issues=5/5", "issue=5/5,issue=6/6", "issue=-1/5"])(
    "%s is refused",
    (text) => {
      expect(typeof readCallerLimits(text)).toBe("string");
    },
  );
});
