import { describe, expect, test } from "vitest";
import { decideIssue, type IssueFacts } from "../../src/domain/issue.js";

const now = new Date("2030-06-01T12:00:00.000Z");
const at = (offsetMs: number) => new Date(now.getTime() + offsetMs);

type Facts = NonNullable<IssueFacts["coupon"]> & { liveHeldCount: number; issuedToday: number };
const open: Facts = {
  startsAt: at(-1_000),
  expiresAt: at(1_000),
  pausedAt: null,
  deletedAt: null,
  exhaustedAt: null,
  quantity: 10,
  issuedCount: 3,
  maxPerUser: 2,
  quota: { group: "g", maxPerDay: 3 },
  liveHeldCount: 1,
  issuedToday: 2,
};

const decide = (change: Partial<Facts>) => {
  const { liveHeldCount, issuedToday, ...coupon } = { ...open, ...change };
  return decideIssue({ coupon, liveHeldCount, issuedToday, now });
};

/** One row for each refusal, in the order in which they are checked, with the least that brings it about. */
const refusals: [string, Partial<Facts>][] = [
  ["COUPON_NOT_FOUND", { deletedAt: at(-1) }],
  ["COUPON_PAUSED", { pausedAt: at(-1) }],
  ["COUPON_NOT_STARTED", { startsAt: at(1) }],
  ["COUPON_ENDED", { expiresAt: now }],
  ["USAGE_CAP_REACHED", { exhaustedAt: at(-1) }],
  ["ALREADY_ISSUED", { liveHeldCount: 2 }],
  ["QUOTA_REACHED", { issuedToday: 3 }],
  ["SOLD_OUT", { issuedCount: 10 }],
];

describe("each refusal by itself", () => {
  test.for(refusals)("%s", ([reason, change]) => {
    expect(decide(change)).toBe(reason);
  });
});

describe("of two refusals the earlier one is told", () => {
  const pairs = refusals.flatMap(([first, one], index) =>
    refusals.slice(index + 1).map(([second, other]) => [first, second, { ...other, ...one }] as const),
  );
  test.for(pairs)("%s before %s", ([first, , change]) => {
    expect(decide(change)).toBe(first);
  });
});

test("with everything against it, the first reason is told", () => {
  expect(decide(Object.assign({}, ...refusals.map(([, change]) => change)))).toBe("COUPON_NOT_FOUND");
});

describe("what is just allowed", () => {
  test.for([
    ["an ordinary one", {}],
    ["at the start time itself", { startsAt: now }],
    ["in the last millisecond", { expiresAt: at(1) }],
    ["the last one", { issuedCount: 9 }],
    ["any number of an unlimited one", { quantity: null, issuedCount: 10 ** 12 }],
    ["any number a day without a quota", { quota: null, issuedToday: 1_000 }],
    ["the last one that the user may hold", { maxPerUser: 100, liveHeldCount: 99 }],
  ] as [string, Partial<Facts>][])("%s", ([, change]) => {
    expect(decide(change)).toBe("ISSUED");
  });
});

describe("what is just refused", () => {
  test.for([
    ["a coupon that is not there", null, "COUPON_NOT_FOUND"],
    ["more held than are allowed now", { maxPerUser: 1, liveHeldCount: 3 }, "ALREADY_ISSUED"],
    ["more issued than the quantity", { quantity: 2 }, "SOLD_OUT"],
  ] as [string, Partial<Facts> | null, string][])("%s", ([, change, reason]) => {
    expect(change ? decide(change) : decideIssue({ coupon: null, liveHeldCount: 0, now })).toBe(reason);
  });
});
