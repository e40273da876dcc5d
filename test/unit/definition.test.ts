import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, type FieldMask, FieldMaskSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { CouponSchema, CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import type { CouponDefinition } from "../../src/domain/coupon.js";
import { type FieldViolation, Refusal } from "../../src/domain/refusal.js";
import { changedDefinition, newDefinition, readMask } from "../../src/services/catalog/definition.js";

type Init = MessageInitShape<typeof CouponSchema>;

const now = new Date("2030-06-01T12:00:00.000Z");
const lateMs = now.getTime() + 86_400_000;
const message = (fields: Init = {}) => create(CouponSchema, fields);
const least: Init = {
  name: "Ten percent",
  discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
  expireTime: timestampFromMs(lateMs),
};
const percentage = {
  kind: { case: "percentage", basisPoints: 1_000 },
  maximumAmount: null,
  minimumOrderAmount: null,
} as const;

const fieldsOf = (result: unknown): string[] => {
  expect(result).toBeInstanceOf(Refusal);
  const { reason, violations } = result as Refusal;
  expect(reason).toBe("INVALID_FIELD");
  return violations.map(({ field }) => field);
};

describe("a new coupon", () => {
  test("gets the defaults where nothing is said", () => {
    expect(newDefinition(message(least), now)).toEqual({
      name: "Ten percent",
      description: "",
      category: "",
      discount: percentage,
      startsAt: now,
      expiresAt: new Date(lateMs),
      quantity: null,
      validityAfterIssueMs: null,
      maxPerUser: 1,
      usageCap: null,
      stackable: false,
      maxUses: 1,
      lockDurationMs: 300_000,
      claimWindowMs: null,
      type: null,
      throttle: null,
      quota: null,
      codeBook: null,
      labels: null,
    });
  });

  test("takes everything that is said, to the millisecond", () => {
    const money = (minorUnits: bigint) => ({ currencyCode: "USD", minorUnits });
    const fields: Init = {
      ...least,
      description: "d",
      category: "c",
      discount: {
        kind: { case: "fixedAmount", value: money(10n ** 15n) },
        minimumOrderAmount: money(0n),
      },
      startTime: { seconds: 1_000n, nanos: 1_000_000 },
      quantity: 10n ** 12n,
      validityAfterIssue: durationFromMs(1_001),
      maxPerUser: 100,
      usageCap: 1n,
      stackable: true,
      maxUses: 1_000,
      lockDuration: durationFromMs(86_400_000),
      claimWindow: durationFromMs(1_001),
      type: CouponType.MEGADEAL,
      throttle: { maxConcurrent: 1, maxPerSecond: 1_000, maxWait: durationFromMs(20_000) },
      quota: { group: "summer", maxPerDay: 1_000 },
      labels: { team: "growth", empty: "" },
    };
    expect(newDefinition(message(fields), now)).toEqual({
      name: "Ten percent",
      description: "d",
      category: "c",
      discount: {
        kind: { case: "fixedAmount", amount: { currencyCode: "USD", minorUnits: 10 ** 15 } },
        maximumAmount: null,
        minimumOrderAmount: { currencyCode: "USD", minorUnits: 0 },
      },
      startsAt: new Date(1_000_001),
      expiresAt: new Date(lateMs),
      quantity: 10 ** 12,
      validityAfterIssueMs: 1_001,
      maxPerUser: 100,
      usageCap: 1,
      stackable: true,
      maxUses: 1_000,
      lockDurationMs: 86_400_000,
      claimWindowMs: 1_001,
      type: "MEGADEAL",
      throttle: { maxConcurrent: 1, maxPerSecond: 1_000, maxWaitMs: 20_000 },
      quota: { group: "summer", maxPerDay: 1_000 },
      codeBook: null,
      labels: { team: "growth", empty: "" },
    });
  });

  test.for([
    ["nothing at all", {}, ["coupon.name", "coupon.discount", "coupon.expire_time"]],
    ["a discount of no kind", { ...least, discount: {} }, ["coupon.discount"]],
    ["an end that has passed", { ...least, expireTime: timestampFromMs(now.getTime()) }, ["coupon.expire_time"]],
    ["a start before 1970", { ...least, startTime: { seconds: -1n } }, ["coupon.start_time"]],
    ["an end past 9999", { ...least, expireTime: { seconds: 253_402_300_800n } }, ["coupon.expire_time"]],
    ["nanos out of range", { ...least, expireTime: { seconds: 1n, nanos: 1_000_000_000 } }, ["coupon.expire_time"]],
    ["negative nanos", { ...least, expireTime: { seconds: 1n, nanos: -1 } }, ["coupon.expire_time"]],
    [
      "a validity of a fraction of a millisecond",
      { ...least, validityAfterIssue: { seconds: 1n, nanos: 1 } },
      ["coupon.validity_after_issue"],
    ],
    [
      "a lock of a fraction of a millisecond",
      { ...least, lockDuration: { seconds: 1n, nanos: 1 } },
      ["coupon.lock_duration"],
    ],
    [
      "a claim window of a fraction of a millisecond",
      { ...least, claimWindow: { seconds: 1n, nanos: 1 } },
      ["coupon.claim_window"],
    ],
    [
      "a wait of a fraction of a millisecond",
      { ...least, throttle: { maxConcurrent: 1, maxPerSecond: 1, maxWait: { seconds: 1n, nanos: 1 } } },
      ["coupon.throttle.max_wait"],
    ],
    ["a quantity of a code book", { ...least, codeBook: {}, quantity: 5n }, ["coupon.quantity"]],
    [
      "two times that cannot be stored",
      { ...least, startTime: { seconds: -1n }, expireTime: { seconds: 2n ** 62n } },
      ["coupon.start_time", "coupon.expire_time"],
    ],
  ] as [string, Init, string[]][])("is refused with %s", ([, fields, wrong]) => {
    expect(fieldsOf(newDefinition(message(fields), now)).sort()).toEqual([...wrong].sort());
  });
});

test("a throttle that says nothing of waiting lets callers wait for ten seconds", () => {
  const throttle = { maxConcurrent: 1, maxPerSecond: 1 };
  expect(newDefinition(message({ ...least, throttle }), now)).toMatchObject({
    throttle: { ...throttle, maxWaitMs: 10_000 },
  });
});

test("a new code book is empty", () => {
  expect(newDefinition(message({ ...least, codeBook: { exactMatch: true } }), now)).toMatchObject({
    codeBook: { exactMatch: true },
    quantity: 0,
  });
});

describe("an update mask", () => {
  const read = (mask: FieldMask | undefined) => {
    const violations: FieldViolation[] = [];
    const masked = readMask(mask, violations);
    return {
      masked,
      wrong: violations.map(({ field }) => field),
      why: violations.map(({ description }) => description),
    };
  };
  const mask = (...paths: string[]) => read(create(FieldMaskSchema, { paths }));

  test.for([
    ["name", "name"],
    ["description", "description"],
    ["category", "category"],
    ["discount", "discount"],
    ["start_time", "startsAt"],
    ["expire_time", "expiresAt"],
    ["quantity", "quantity"],
    ["validity_after_issue", "validityAfterIssueMs"],
    ["max_per_user", "maxPerUser"],
    ["usage_cap", "usageCap"],
    ["stackable", "stackable"],
    ["max_uses", "maxUses"],
    ["lock_duration", "lockDurationMs"],
    ["claim_window", "claimWindowMs"],
    ["type", "type"],
    ["throttle", "throttle"],
    ["quota", "quota"],
  ] as [string, keyof CouponDefinition][])("may name %s", ([path, field]) => {
    expect(mask(path)).toEqual({ masked: [field], wrong: [], why: [] });
  });

  test("that is absent or empty is refused", () => {
    expect(read(undefined).wrong).toEqual(["update_mask"]);
    expect(mask().wrong).toEqual(["update_mask"]);
  });

  test.for([
    "id",
    "issued_count",
    "state",
    "revision",
    "code_book",
    "type_pool",
    "create_time",
    "paused",
    "colour",
    "startTime",
    "Name",
    "discount.fixed_amount",
    "*",
    "",
    " name",
    "toString",
    "__proto__",
  ])("may not name %s", (path) => {
    expect(mask("name", path).wrong).toEqual(["update_mask"]);
  });

  test("that names two unknown fields hears of both", () => {
    const { wrong, why } = mask("colour", "name", "size");
    expect(wrong).toEqual(["update_mask", "update_mask"]);
    expect(why).toEqual([expect.stringContaining('"colour"'), expect.stringContaining('"size"')]);
  });
});

describe("a changed definition", () => {
  const current: CouponDefinition = {
    name: "Old",
    description: "old",
    category: "old",
    discount: percentage,
    startsAt: now,
    expiresAt: new Date(lateMs),
    quantity: 5,
    validityAfterIssueMs: 9_000,
    maxPerUser: 3,
    usageCap: 4,
    stackable: true,
    maxUses: 6,
    lockDurationMs: 60_000,
    claimWindowMs: 7_000,
    type: "STANDARD",
    throttle: { maxConcurrent: 4, maxPerSecond: 4, maxWaitMs: 4 },
    quota: { group: "summer", maxPerDay: 2 },
    codeBook: null,
    labels: { team: "growth" },
  };

  test("takes what is named and keeps the rest", () => {
    const sent = message({ name: "New", description: "not named", quantity: 6n });
    expect(changedDefinition(current, sent, ["name", "quantity"])).toEqual({ ...current, name: "New", quantity: 6 });
  });

  test.for([
    ["description", ""],
    ["category", ""],
    ["quantity", null],
    ["validityAfterIssueMs", null],
    ["maxPerUser", 1],
    ["usageCap", null],
    ["stackable", false],
    ["maxUses", 1],
    ["lockDurationMs", 300_000],
    ["claimWindowMs", null],
    ["type", null],
    ["throttle", null],
  ] as [keyof CouponDefinition, unknown][])("clears %s when it is named and absent", ([field, cleared]) => {
    expect(changedDefinition(current, message(), [field])).toEqual({ ...current, [field]: cleared });
  });

  test.for([
    ["name", "coupon.name"],
    ["discount", "coupon.discount"],
    ["startsAt", "coupon.start_time"],
    ["expiresAt", "coupon.expire_time"],
  ] as [keyof CouponDefinition, string][])("cannot go without %s", ([field, path]) => {
    expect(fieldsOf(changedDefinition(current, message(), [field]))).toEqual([path]);
  });

  test("keeps its quota group, and never gets or loses a quota", () => {
    const sent = (quota?: Init["quota"]) => message(quota ? { quota } : {});
    const changed = changedDefinition(current, sent({ group: "summer", maxPerDay: 3 }), ["quota"]);
    expect(changed).toEqual({ ...current, quota: { group: "summer", maxPerDay: 3 } });
    const none = { ...current, quota: null };
    expect(changedDefinition(none, sent(), ["quota"])).toEqual(none);
    for (const [before, quota] of [
      [current, { group: "winter", maxPerDay: 2 }],
      [current, undefined],
      [none, { group: "summer", maxPerDay: 2 }],
    ] as const) {
      expect(fieldsOf(changedDefinition(before, sent(quota), ["quota"]))).toEqual(["coupon.quota.group"]);
      expect(changedDefinition(before, sent(quota), ["description"])).toEqual({ ...before, description: "" });
    }
  });

  test("stays or is no code book, and the quantity of one is its codes", () => {
    const book: CouponDefinition = { ...current, codeBook: { exactMatch: true }, quantity: 7 };
    const sent = message({ name: "New", quantity: 9n });
    expect(changedDefinition(book, sent, ["name"])).toEqual({ ...book, name: "New" });
    expect(fieldsOf(changedDefinition(book, sent, ["name", "quantity"]))).toEqual(["coupon.quantity"]);
  });

  test("becomes a MEGADEAL with its throttle, or with that of every MEGADEAL", () => {
    const sent = message({ type: CouponType.MEGADEAL });
    expect(changedDefinition(current, sent, ["type"])).toEqual({ ...current, type: "MEGADEAL" });
    const throttle = { maxConcurrent: 5, maxPerSecond: 10, maxWaitMs: 10_000 };
    expect(changedDefinition(current, sent, ["type", "throttle"])).toEqual({ ...current, type: "MEGADEAL", throttle });
  });

  test("is refused with a wait that cannot be stored", () => {
    const sent = message({ throttle: { maxConcurrent: 1, maxPerSecond: 1, maxWait: { seconds: 1n, nanos: 1 } } });
    expect(fieldsOf(changedDefinition(current, sent, ["throttle"]))).toEqual(["coupon.throttle.max_wait"]);
    expect(changedDefinition(current, sent, ["category"])).toEqual({ ...current, category: "" });
  });

  test("is checked against what is kept", () => {
    const early = message({ expireTime: timestampFromMs(now.getTime()) });
    expect(fieldsOf(changedDefinition(current, early, ["expiresAt"]))).toEqual(["coupon.expire_time"]);
    const late = message({ startTime: timestampFromMs(lateMs) });
    expect(fieldsOf(changedDefinition(current, late, ["startsAt"]))).toEqual(["coupon.expire_time"]);
  });

  test("is not spoilt by what is not named", () => {
    const junk = message({
      name: "New",
      startTime: { seconds: -1n },
      expireTime: { seconds: 2n ** 62n },
      validityAfterIssue: { seconds: 1n, nanos: 1 },
    });
    expect(changedDefinition(current, junk, ["name"])).toEqual({ ...current, name: "New" });
    expect(fieldsOf(changedDefinition(current, junk, ["name", "expiresAt"]))).toEqual(["coupon.expire_time"]);
    expect(fieldsOf(changedDefinition(current, junk, ["validityAfterIssueMs"]))).toEqual([
      "coupon.validity_after_issue",
    ]);
  });
});
