import { randomUUID } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, test } from "vitest";
import {
  CatalogService,
  CreateCouponResponseSchema,
  DeleteCouponResponseSchema,
  PauseCouponResponseSchema,
  ResumeCouponResponseSchema,
  UpdateCouponResponseSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { type Coupon, CouponState } from "../../gen/coupon/v1/coupon_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { twoReplicas } from "../support/service.js";
import { answerOf } from "./front-ends.js";
import { type CouponInit, createSample, issue, issued, readCoupon, sampleCoupon, untilPassed } from "./samples.js";

const { createCoupon, listCoupons, updateCoupon, deleteCoupon, pauseCoupon, resumeCoupon } = CatalogService.method;

const hourMs = 3_600_000;
const usd = (minorUnits: bigint) => ({ currencyCode: "USD", minorUnits });

const { sql, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

async function update(id: string, fields: CouponInit, ...paths: string[]): Promise<Coupon> {
  const { coupon } = await here.call(updateCoupon, { coupon: { ...fields, id }, updateMask: { paths } });
  return coupon as Coupon;
}

async function refused(call: Promise<unknown>): Promise<[string, string | undefined, readonly string[]]> {
  const { code, reason, fields } = await answerOf(call);
  return [code, reason, fields];
}

interface EventRow {
  kind: string;
  detail: Record<string, unknown> | null;
}

async function eventsOf(couponId: string): Promise<EventRow[]> {
  return await sql<EventRow[]>`SELECT kind, detail FROM events WHERE coupon_id = ${couponId} ORDER BY seq`;
}

async function kindsOf(couponId: string): Promise<string[]> {
  return (await eventsOf(couponId)).map(({ kind }) => kind);
}

describe("CreateCoupon", () => {
  test("fills in what is not said", async () => {
    const before = Date.now();
    const coupon = await createSample(here);
    expect(coupon.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(coupon).toMatchObject({
      name: "Ten percent",
      description: "",
      category: "",
      maxPerUser: 1,
      stackable: false,
      issuedCount: 0n,
      state: CouponState.ACTIVE,
      revision: 1n,
    });
    for (const name of ["quantity", "remainingCount", "validityAfterIssue", "usageCap", "deleteTime"] as const) {
      expect(coupon[name]).toBeUndefined();
    }
    expect(timestampMs(coupon.createTime!)).toBeGreaterThanOrEqual(before);
    expect(timestampMs(coupon.createTime!)).toBeLessThanOrEqual(Date.now());
    expect(coupon.startTime).toEqual(coupon.createTime);
    expect(coupon.updateTime).toEqual(coupon.createTime);
    expect(await kindsOf(coupon.id)).toEqual(["COUPON_CREATED"]);
  });

  test("keeps everything that is said, and GetCoupon and ListCoupons answer the same", async () => {
    const startMs = Date.now() - hourMs;
    const fields = sampleCoupon({
      name: " Söömer 🎟 ",
      description: "Twenty percent,\nat most $50.",
      category: "summer",
      discount: {
        kind: { case: "percentageBasisPoints", value: 10_000 },
        maximumAmount: usd(5_000n),
        minimumOrderAmount: usd(0n),
      },
      startTime: timestampFromMs(startMs),
      quantity: 1_000_000_000_000n,
      validityAfterIssue: durationFromMs(86_400_001),
      maxPerUser: 100,
      usageCap: 7n,
      stackable: true,
    });
    const { coupon } = await here.call(createCoupon, { coupon: fields });
    const { $typeName: _, discount, ...rest } = coupon as Coupon;
    expect(rest).toMatchObject({
      ...{ name: " Söömer 🎟 ", description: "Twenty percent,\nat most $50.", category: "summer" },
      ...{ quantity: 1_000_000_000_000n, remainingCount: 1_000_000_000_000n, maxPerUser: 100, usageCap: 7n },
      ...{ stackable: true, state: CouponState.ACTIVE, startTime: fields.startTime, expireTime: fields.expireTime },
      validityAfterIssue: fields.validityAfterIssue,
    });
    expect(discount).toMatchObject({
      kind: { case: "percentageBasisPoints", value: 10_000 },
      maximumAmount: usd(5_000n),
      minimumOrderAmount: usd(0n),
    });
    expect(await readCoupon(there, (coupon as Coupon).id)).toEqual(coupon);
    const { coupons } = await there.call(listCoupons, { pageSize: 1 });
    expect(coupons).toEqual([coupon]);
  });

  test.for([
    ["a fixed amount", { kind: { case: "fixedAmount" as const, value: usd(1n) } }],
    [
      "a fixed amount with a minimum",
      { kind: { case: "fixedAmount" as const, value: usd(10n ** 15n) }, minimumOrderAmount: usd(1n) },
    ],
    ["one basis point", { kind: { case: "percentageBasisPoints" as const, value: 1 } }],
    [
      "a minimum without a ceiling",
      {
        kind: { case: "percentageBasisPoints" as const, value: 1 },
        minimumOrderAmount: { currencyCode: "JPY", minorUnits: 5n },
      },
    ],
  ] as const)("keeps %s", async ([, discount]) => {
    const coupon = await createSample(here, { discount });
    expect(coupon.discount).toMatchObject(discount);
    expect((await readCoupon(there, coupon.id)).discount).toEqual(coupon.discount);
  });

  test("ignores fields that are output only", async () => {
    const coupon = await createSample(here, {
      id: "00000000-0000-7000-8000-000000000000",
      issuedCount: 5n,
      remainingCount: 6n,
      state: CouponState.DELETED,
      revision: 9n,
      deleteTime: timestampFromMs(1_000),
      createTime: timestampFromMs(1_000),
    });
    expect(coupon.id).not.toBe("00000000-0000-7000-8000-000000000000");
    expect(coupon).toMatchObject({ issuedCount: 0n, state: CouponState.ACTIVE, revision: 1n });
    expect([coupon.remainingCount, coupon.deleteTime]).toEqual([undefined, undefined]);
    expect(timestampMs(coupon.createTime!)).toBeGreaterThan(1_000);
  });
});

describe("UpdateCoupon", () => {
  const changes: [string, CouponInit, Partial<Coupon> | Record<string, unknown>][] = [
    ["name", { name: "New" }, { name: "New" }],
    ["description", { description: "new" }, { description: "new" }],
    ["category", { category: "new" }, { category: "new" }],
    ["discount", { discount: { kind: { case: "fixedAmount", value: usd(700n) } } }, {}],
    ["start_time", { startTime: timestampFromMs(1_000) }, { startTime: timestampFromMs(1_000) }],
    ["expire_time", { expireTime: timestampFromMs(4e12) }, { expireTime: timestampFromMs(4e12) }],
    ["quantity", { quantity: 77n }, { quantity: 77n, remainingCount: 77n }],
    [
      "validity_after_issue",
      { validityAfterIssue: durationFromMs(9_000) },
      { validityAfterIssue: durationFromMs(9_000) },
    ],
    ["max_per_user", { maxPerUser: 9 }, { maxPerUser: 9 }],
    ["usage_cap", { usageCap: 9n }, { usageCap: 9n, remainingUseCount: 9n }],
    ["max_uses", { maxUses: 4 }, { maxUses: 4 }],
    ["lock_duration", { lockDuration: durationFromMs(8_000) }, { lockDuration: durationFromMs(8_000) }],
    ["claim_window", { claimWindow: durationFromMs(7_000) }, { claimWindow: durationFromMs(7_000) }],
    ["stackable", { stackable: true }, { stackable: true }],
  ];
  const everything: CouponInit = Object.assign({}, ...changes.map(([, fields]) => fields));

  test.for(changes)("changes %s and nothing else", async ([path, , expected]) => {
    const coupon = await createSample(here, { quantity: 5n, description: "d", category: "c", usageCap: 3n });
    const changed = await update(coupon.id, everything, path);
    if (path === "discount") expect(changed.discount).toMatchObject(everything.discount as object);
    const { discount, updateTime, revision, ...others } = changed;
    expect(revision).toBe(2n);
    expect(timestampMs(updateTime!)).toBeGreaterThanOrEqual(timestampMs(coupon.updateTime!));
    expect({ ...others, ...(path !== "discount" && { discount }) }).toEqual({
      ...Object.fromEntries(
        Object.entries(coupon).filter(
          ([name]) => !["updateTime", "revision", ...(path === "discount" ? ["discount"] : [])].includes(name),
        ),
      ),
      ...expected,
    });
    expect(await readCoupon(there, coupon.id)).toEqual(changed);
    expect(await kindsOf(coupon.id)).toEqual(["COUPON_CREATED", "COUPON_UPDATED"]);
  });

  const full = {
    description: "d",
    category: "c",
    quantity: 5n,
    validityAfterIssue: durationFromMs(hourMs),
    maxPerUser: 3,
    usageCap: 4n,
    stackable: true,
  };
  test.for([
    ["description", { description: "" }],
    ["category", { category: "" }],
    ["quantity", { quantity: undefined, remainingCount: undefined }],
    ["validity_after_issue", { validityAfterIssue: undefined }],
    ["max_per_user", { maxPerUser: 1 }],
    ["usage_cap", { usageCap: undefined }],
    ["stackable", { stackable: false }],
  ] as const)("clears %s when it is named and absent", async ([path, expected]) => {
    const coupon = await createSample(here, full);
    const changed = await update(coupon.id, {}, path);
    for (const [name, value] of Object.entries(expected)) expect(changed[name as keyof Coupon]).toEqual(value);
    const untouched = Object.keys(full).filter((name) => !Object.hasOwn(expected, name)) as (keyof typeof full)[];
    for (const name of untouched) expect(changed[name]).toEqual(coupon[name]);
  });

  test.for([["name"], ["discount"], ["start_time"], ["expire_time"]])(
    "does not clear %s, which is required",
    async ([path]) => {
      const coupon = await createSample(here);
      const call = here.call(updateCoupon, { coupon: { id: coupon.id }, updateMask: { paths: [path as string] } });
      expect(await refused(call)).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD", [`coupon.${path}`]]);
      expect((await readCoupon(here, coupon.id)).revision).toBe(1n);
    },
  );

  test("takes several fields at once, in one revision, and a path twice", async () => {
    const coupon = await createSample(here);
    const changed = await update(
      coupon.id,
      { name: "New", category: "new", description: "not named" },
      "name",
      "category",
      "name",
    );
    expect(changed).toMatchObject({ name: "New", category: "new", description: "", revision: 2n });
  });

  test("checks the whole coupon as it would become", async () => {
    const coupon = await createSample(here, { discount: { kind: { case: "fixedAmount", value: usd(500n) } } });
    const early = timestampFromMs(timestampMs(coupon.startTime!));
    expect(
      await refused(
        here.call(updateCoupon, {
          coupon: { id: coupon.id, expireTime: early },
          updateMask: { paths: ["expire_time"] },
        }),
      ),
    ).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD", ["coupon.expire_time"]]);
    const late = timestampFromMs(timestampMs(coupon.expireTime!));
    expect(
      await refused(
        here.call(updateCoupon, { coupon: { id: coupon.id, startTime: late }, updateMask: { paths: ["start_time"] } }),
      ),
    ).toEqual(["INVALID_ARGUMENT", "INVALID_FIELD", ["coupon.expire_time"]]);
    expect(await kindsOf(coupon.id)).toEqual(["COUPON_CREATED"]);
  });

  test("does not look at fields outside the mask", async () => {
    const coupon = await createSample(here);
    const junk: CouponInit = {
      discount: { kind: { case: "fixedAmount", value: { currencyCode: "XXQ", minorUnits: 0n } } },
      expireTime: timestampFromMs(1_000),
      description: "\0",
    };
    expect((await update(coupon.id, { ...junk, name: "New" }, "name")).name).toBe("New");
  });

  test("needs the current revision, or none", async () => {
    const coupon = await createSample(here);
    const withRevision = (revision: bigint, name: string) =>
      here.call(updateCoupon, { coupon: { id: coupon.id, name, revision }, updateMask: { paths: ["name"] } });
    expect((await withRevision(1n, "second")).coupon?.revision).toBe(2n);
    expect(await refused(withRevision(1n, "stale"))).toEqual(["ABORTED", "STALE_REVISION", []]);
    expect(await refused(withRevision(3n, "from the future"))).toEqual(["ABORTED", "STALE_REVISION", []]);
    expect((await withRevision(0n, "third")).coupon?.revision).toBe(3n);
    expect((await readCoupon(there, coupon.id)).name).toBe("third");
  });

  test("of one revision by ten callers at once is made by one", async () => {
    const coupon = await createSample(here);
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        answerOf(
          (index % 2 === 0 ? here : there).call(updateCoupon, {
            coupon: { id: coupon.id, name: `name ${index}`, revision: 1n },
            updateMask: { paths: ["name"] },
          }),
        ),
      ),
    );
    expect(answers.filter(({ code }) => code === "OK")).toHaveLength(1);
    expect(answers.filter(({ reason }) => reason === "STALE_REVISION")).toHaveLength(9);
    expect((await readCoupon(here, coupon.id)).revision).toBe(2n);
  });

  test("does not set the quantity below what is issued", async () => {
    const coupon = await createSample(here, { quantity: 5n });
    for (const userId of ["a", "b", "c"]) await issued(here, coupon.id, userId);
    const to = (quantity: bigint, revision = 0n) =>
      here.call(updateCoupon, { coupon: { id: coupon.id, quantity, revision }, updateMask: { paths: ["quantity"] } });
    expect(await refused(to(2n))).toEqual(["FAILED_PRECONDITION", "QUANTITY_BELOW_ISSUED", ["coupon.quantity"]]);
    expect(await refused(to(2n, 7n))).toEqual(["ABORTED", "STALE_REVISION", []]);
    const { coupon: changed } = await to(3n);
    expect(changed).toMatchObject({ quantity: 3n, issuedCount: 3n, remainingCount: 0n, state: CouponState.SOLD_OUT });
    expect(await refused(issue(there, coupon.id, "d"))).toEqual(["FAILED_PRECONDITION", "SOLD_OUT", []]);
  });

  test("of an unlimited coupon that is below what is issued is refused as well", async () => {
    const coupon = await createSample(here);
    for (const userId of ["a", "b"]) await issued(here, coupon.id, userId);
    const call = here.call(updateCoupon, {
      coupon: { id: coupon.id, quantity: 1n },
      updateMask: { paths: ["quantity"] },
    });
    expect(await refused(call)).toEqual(["FAILED_PRECONDITION", "QUANTITY_BELOW_ISSUED", ["coupon.quantity"]]);
  });

  test("a new validity does not touch what was issued; a new name and expire time do", async () => {
    const coupon = await createSample(here, { validityAfterIssue: durationFromMs(2 * hourMs) });
    const before = await issued(here, coupon.id, "before");
    await update(
      coupon.id,
      { validityAfterIssue: durationFromMs(hourMs), name: "Renamed" },
      "validity_after_issue",
      "name",
    );
    const after = await issued(there, coupon.id, "after");
    const read = async (userId: string, userCouponId: string) =>
      (await there.call(UserCouponService.method.getUserCoupon, { userId, userCouponId })).userCoupon!;
    const old = await read("before", before.id);
    expect(old.expireTime).toEqual(before.expireTime);
    expect(old.coupon?.name).toBe("Renamed");
    expect(timestampMs(after.expireTime!) - timestampMs(after.issueTime!)).toBe(hourMs);

    const soon = timestampFromMs(Date.now() + hourMs / 2);
    await update(coupon.id, { expireTime: soon }, "expire_time");
    expect((await read("before", before.id)).expireTime).toEqual(soon);
    expect((await read("after", after.id)).expireTime).toEqual(soon);
    // A later one gives back what the earlier one had cut off, and no more.
    await update(coupon.id, { expireTime: timestampFromMs(Date.now() + 9 * hourMs) }, "expire_time");
    expect((await read("before", before.id)).expireTime).toEqual(before.expireTime);
  });

  test("an expire time in the past ends a coupon, and what was issued of it", async () => {
    const startTime = timestampFromMs(Date.now() - hourMs);
    const coupon = await createSample(here, { startTime });
    const { id } = await issued(here, coupon.id, "anna");
    const changed = await update(coupon.id, { expireTime: timestampFromMs(Date.now() - 1_000) }, "expire_time");
    expect(changed.state).toBe(CouponState.ENDED);
    expect(await refused(issue(there, coupon.id, "bert"))).toEqual(["FAILED_PRECONDITION", "COUPON_ENDED", []]);
    const { userCoupon } = await there.call(UserCouponService.method.getUserCoupon, {
      userId: "anna",
      userCouponId: id,
    });
    expect(userCoupon?.status).toBe(UserCouponStatus.EXPIRED);
    const { userCoupons } = await there.call(UserCouponService.method.listUserCoupons, { userId: "anna" });
    expect(userCoupons.filter((one) => one.couponId === coupon.id)).toEqual([]);
  });

  test("a lower max_per_user takes nothing away, and a higher one lets more be issued", async () => {
    const coupon = await createSample(here, { maxPerUser: 3 });
    for (let count = 0; count < 3; count++) await issued(here, coupon.id, "anna");
    await update(coupon.id, { maxPerUser: 2 }, "max_per_user");
    expect(await refused(issue(there, coupon.id, "anna"))).toEqual(["ALREADY_EXISTS", "ALREADY_ISSUED", []]);
    const { userCoupons } = await there.call(UserCouponService.method.listUserCoupons, { userId: "anna" });
    expect(userCoupons.filter((one) => one.couponId === coupon.id)).toHaveLength(3);
    await update(coupon.id, { maxPerUser: 4 }, "max_per_user");
    await issued(there, coupon.id, "anna");
    expect(await refused(issue(here, coupon.id, "anna"))).toEqual(["ALREADY_EXISTS", "ALREADY_ISSUED", []]);
  });

  test("of a coupon that nobody knows is COUPON_NOT_FOUND", async () => {
    const call = here.call(updateCoupon, { coupon: { id: randomUUID(), name: "x" }, updateMask: { paths: ["name"] } });
    expect(await refused(call)).toEqual(["NOT_FOUND", "COUPON_NOT_FOUND", []]);
  });
});

describe("PauseCoupon and ResumeCoupon", () => {
  test("stop and start issuing, with a revision and an event each", async () => {
    const coupon = await createSample(here);
    const { coupon: paused } = await here.call(pauseCoupon, { couponId: coupon.id });
    expect(paused).toMatchObject({ state: CouponState.PAUSED, revision: 2n });
    expect(await refused(issue(there, coupon.id, "anna"))).toEqual(["FAILED_PRECONDITION", "COUPON_PAUSED", []]);
    const { coupon: resumed } = await there.call(resumeCoupon, { couponId: coupon.id });
    expect(resumed).toMatchObject({ state: CouponState.ACTIVE, revision: 3n });
    await issued(here, coupon.id, "anna");
    expect(await kindsOf(coupon.id)).toEqual([
      "COUPON_CREATED",
      "COUPON_PAUSED",
      "COUPON_RESUMED",
      "USER_COUPON_ISSUED",
    ]);
  });

  test("change nothing when there is nothing to change", async () => {
    const coupon = await createSample(here);
    expect((await here.call(resumeCoupon, { couponId: coupon.id })).coupon).toEqual(coupon);
    const { coupon: paused } = await here.call(pauseCoupon, { couponId: coupon.id });
    expect((await there.call(pauseCoupon, { couponId: coupon.id })).coupon).toEqual(paused);
    expect(await kindsOf(coupon.id)).toEqual(["COUPON_CREATED", "COUPON_PAUSED"]);
  });

  test("an update leaves a paused coupon paused", async () => {
    const coupon = await createSample(here);
    await here.call(pauseCoupon, { couponId: coupon.id });
    expect((await update(coupon.id, { name: "New" }, "name")).state).toBe(CouponState.PAUSED);
  });

  test.for([
    ["PauseCoupon", pauseCoupon],
    ["ResumeCoupon", resumeCoupon],
  ] as const)("%s of a coupon that nobody knows, or a deleted one, is COUPON_NOT_FOUND", async ([, method]) => {
    const { id } = await createSample(here);
    await here.call(deleteCoupon, { couponId: id });
    for (const couponId of [randomUUID(), id]) {
      expect(await refused(here.call(method, { couponId }))).toEqual(["NOT_FOUND", "COUPON_NOT_FOUND", []]);
    }
  });
});

describe("DeleteCoupon", () => {
  const held = async (revokeIssued: boolean) => {
    const coupon = await createSample(here, { quantity: 5n });
    const userId = randomUUID();
    const userCoupon = await issued(here, coupon.id, userId);
    const { coupon: deleted } = await there.call(deleteCoupon, { couponId: coupon.id, revokeIssued });
    return { coupon, userId, userCoupon, deleted: deleted as Coupon };
  };

  test.for([
    [false, UserCouponStatus.READY],
    [true, UserCouponStatus.REVOKED],
  ] as const)("with revoke_issued %s leaves what was issued in status %s", async ([revokeIssued, status]) => {
    const { coupon, userId, userCoupon, deleted } = await held(revokeIssued);
    expect(deleted).toMatchObject({ state: CouponState.DELETED, revision: 2n, issuedCount: 1n });
    expect(deleted.deleteTime).toEqual(deleted.updateTime);
    expect(await refused(issue(here, coupon.id, "bert"))).toEqual(["NOT_FOUND", "COUPON_NOT_FOUND", []]);
    const { userCoupon: read } = await here.call(UserCouponService.method.getUserCoupon, {
      userId,
      userCouponId: userCoupon.id,
    });
    expect(read).toMatchObject({ status, expireTime: userCoupon.expireTime });
    const { userCoupons } = await here.call(UserCouponService.method.listUserCoupons, { userId });
    expect(userCoupons).toEqual([read]);
    expect(await kindsOf(coupon.id)).toEqual(["COUPON_CREATED", "USER_COUPON_ISSUED", "COUPON_DELETED"]);
  });

  test("keeps the coupon readable, and listed only when asked for", async () => {
    const { coupon, deleted } = await held(false);
    expect(await readCoupon(here, coupon.id)).toEqual(deleted);
    const ids = async (showDeleted: boolean) =>
      (await here.call(listCoupons, { pageSize: 1_000, showDeleted })).coupons.map(({ id }) => id);
    expect(await ids(false)).not.toContain(coupon.id);
    expect(await ids(true)).toContain(coupon.id);
  });

  test("cannot be done twice, and ends all changes", async () => {
    const { coupon } = await held(false);
    const notFound = ["NOT_FOUND", "COUPON_NOT_FOUND", []];
    expect(await refused(here.call(deleteCoupon, { couponId: coupon.id }))).toEqual(notFound);
    // A wrong revision of a deleted coupon: the deletion is what is told.
    expect(await refused(here.call(deleteCoupon, { couponId: coupon.id, revision: 9n }))).toEqual(notFound);
    expect(
      await refused(here.call(updateCoupon, { coupon: { id: coupon.id, name: "x" }, updateMask: { paths: ["name"] } })),
    ).toEqual(notFound);
  });

  test("needs the current revision, or none", async () => {
    const coupon = await createSample(here);
    expect(await refused(here.call(deleteCoupon, { couponId: coupon.id, revision: 2n }))).toEqual([
      "ABORTED",
      "STALE_REVISION",
      [],
    ]);
    expect((await here.call(deleteCoupon, { couponId: coupon.id, revision: 1n })).coupon?.state).toBe(
      CouponState.DELETED,
    );
  });
});

describe("request ids", () => {
  const bytesOf = (answer: { $typeName: string }) => {
    const schemas = [
      CreateCouponResponseSchema,
      UpdateCouponResponseSchema,
      DeleteCouponResponseSchema,
      PauseCouponResponseSchema,
      ResumeCouponResponseSchema,
    ];
    const schema = schemas.find(({ typeName }) => typeName === answer.$typeName)!;
    return Buffer.from(toBinary(schema, create(schema, answer as never))).toString("hex");
  };

  test("CreateCoupon: a repeated call gets the first answer, byte for byte, whatever happened since", async () => {
    const request = { coupon: sampleCoupon({ quantity: 3n }), requestId: randomUUID() };
    const first = await here.call(createCoupon, request);
    const id = first.coupon?.id as string;
    expect(bytesOf(await there.call(createCoupon, request))).toBe(bytesOf(first));
    await issued(here, id, "anna");
    await update(id, { name: "Renamed" }, "name");
    expect(bytesOf(await there.call(createCoupon, request))).toBe(bytesOf(first));
    await here.call(deleteCoupon, { couponId: id });
    expect(bytesOf(await there.call(createCoupon, request))).toBe(bytesOf(first));
    expect(await kindsOf(id)).toEqual(["COUPON_CREATED", "USER_COUPON_ISSUED", "COUPON_UPDATED", "COUPON_DELETED"]);
  });

  test("a repeated call gets the first answer also when time has changed the coupon's state", async () => {
    const startMs = Date.now() + 3_000;
    const request = { coupon: sampleCoupon({ startTime: timestampFromMs(startMs) }), requestId: randomUUID() };
    const first = await here.call(createCoupon, request);
    expect(first.coupon?.state).toBe(CouponState.SCHEDULED);
    await untilPassed(startMs);
    expect(bytesOf(await there.call(createCoupon, request))).toBe(bytesOf(first));
  });

  const edits = [
    [
      "UpdateCoupon",
      (id: string, requestId: string) =>
        there.call(updateCoupon, { coupon: { id, name: "New" }, updateMask: { paths: ["name"] }, requestId }),
    ],
    ["PauseCoupon", (id: string, requestId: string) => there.call(pauseCoupon, { couponId: id, requestId })],
    ["DeleteCoupon", (id: string, requestId: string) => there.call(deleteCoupon, { couponId: id, requestId })],
  ] as const;
  test.for(edits)("%s: a repeated call changes nothing and gets the first answer", async ([, change]) => {
    const { id } = await createSample(here);
    const requestId = randomUUID();
    const first = await change(id, requestId);
    const after = await readCoupon(here, id);
    for (let round = 0; round < 2; round++) expect(bytesOf(await change(id, requestId))).toBe(bytesOf(first));
    expect(await readCoupon(here, id)).toEqual(after);
    expect(await kindsOf(id)).toHaveLength(2);
  });

  test("UpdateCoupon: a repeated call comes before STALE_REVISION and before the coupon's deletion", async () => {
    const { id } = await createSample(here);
    const request = {
      coupon: { id, name: "New", revision: 1n },
      updateMask: { paths: ["name"] },
      requestId: randomUUID(),
    };
    const first = await here.call(updateCoupon, request);
    expect(bytesOf(await there.call(updateCoupon, request))).toBe(bytesOf(first));
    await here.call(deleteCoupon, { couponId: id });
    expect(bytesOf(await there.call(updateCoupon, request))).toBe(bytesOf(first));
  });

  test("ResumeCoupon: a repeat after another pause does not resume again", async () => {
    const { id } = await createSample(here);
    const requestId = randomUUID();
    await here.call(pauseCoupon, { couponId: id });
    const first = await here.call(resumeCoupon, { couponId: id, requestId });
    await here.call(pauseCoupon, { couponId: id });
    expect(bytesOf(await there.call(resumeCoupon, { couponId: id, requestId }))).toBe(bytesOf(first));
    expect((await readCoupon(here, id)).state).toBe(CouponState.PAUSED);
  });

  test("PauseCoupon: a repeat of one that had nothing to do does not pause later", async () => {
    const { id } = await createSample(here);
    const requestId = randomUUID();
    await here.call(pauseCoupon, { couponId: id });
    const first = await here.call(pauseCoupon, { couponId: id, requestId });
    await here.call(resumeCoupon, { couponId: id });
    expect(bytesOf(await there.call(pauseCoupon, { couponId: id, requestId }))).toBe(bytesOf(first));
    expect((await readCoupon(here, id)).state).toBe(CouponState.ACTIVE);
  });

  test("with other input are refused, and nothing is done", async () => {
    const coupon = await createSample(here);
    const other = await createSample(here);
    const requestId = randomUUID();
    const reused = ["INVALID_ARGUMENT", "REQUEST_ID_REUSED", ["request_id"]];

    const first = sampleCoupon();
    await here.call(createCoupon, { coupon: first, requestId });
    expect(await refused(there.call(createCoupon, { coupon: { ...first, name: "Other" }, requestId }))).toEqual(reused);
    await here.call(pauseCoupon, { couponId: coupon.id, requestId });
    expect(await refused(there.call(pauseCoupon, { couponId: other.id, requestId }))).toEqual(reused);
    expect((await readCoupon(here, other.id)).state).toBe(CouponState.ACTIVE);
    await here.call(deleteCoupon, { couponId: coupon.id, requestId });
    expect(await refused(there.call(deleteCoupon, { couponId: coupon.id, requestId, revokeIssued: true }))).toEqual(
      reused,
    );
    expect(await refused(there.call(deleteCoupon, { couponId: randomUUID(), requestId }))).toEqual(reused);
  });

  test("are separate for each method", async () => {
    const requestId = randomUUID();
    const { coupon } = await here.call(createCoupon, { coupon: sampleCoupon(), requestId });
    const id = coupon?.id as string;
    await here.call(updateCoupon, { coupon: { id, name: "New" }, updateMask: { paths: ["name"] }, requestId });
    await here.call(pauseCoupon, { couponId: id, requestId });
    await here.call(resumeCoupon, { couponId: id, requestId });
    await issue(here, id, "anna", requestId);
    await here.call(deleteCoupon, { couponId: id, requestId });
    expect((await readCoupon(here, id)).revision).toBe(5n);
  });

  test("of a refused call may be used again", async () => {
    const { id } = await createSample(here);
    const requestId = randomUUID();
    const call = (revision: bigint) =>
      here.call(updateCoupon, { coupon: { id, name: "New", revision }, updateMask: { paths: ["name"] }, requestId });
    expect((await refused(call(5n)))[1]).toBe("STALE_REVISION");
    expect((await call(1n)).coupon?.revision).toBe(2n);
  });

  test("20 creates at once with one request id through two replicas make one coupon", async () => {
    const name = randomUUID();
    const request = { coupon: sampleCoupon({ name }), requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? here : there).call(createCoupon, request)),
    );
    expect(new Set(answers.map(bytesOf)).size).toBe(1);
    const [{ count } = { count: 0 }] = await sql<{ count: number }[]>`
      SELECT count(*)::int AS count FROM coupons WHERE name = ${name}`;
    expect(count).toBe(1);
    expect(await kindsOf(answers[0]?.coupon?.id as string)).toEqual(["COUPON_CREATED"]);
  });

  test("20 creates at once with one request id and other input each: one is made, 19 are refused", async () => {
    const requestId = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        answerOf(
          (index % 2 === 0 ? here : there).call(createCoupon, {
            coupon: sampleCoupon({ name: `n ${index}` }),
            requestId,
          }),
        ),
      ),
    );
    expect(answers.filter(({ code }) => code === "OK")).toHaveLength(1);
    expect(answers.filter(({ reason }) => reason === "REQUEST_ID_REUSED")).toHaveLength(19);
  });

  test("without one, two equal creates make two coupons", async () => {
    const fields = sampleCoupon();
    const one = await here.call(createCoupon, { coupon: fields });
    const other = await here.call(createCoupon, { coupon: fields });
    expect(one.coupon?.id).not.toBe(other.coupon?.id);
  });
});

describe("the record of changes", () => {
  test("holds the row as each change left it, in order", async () => {
    const coupon = await createSample(here, { quantity: 5n });
    await update(coupon.id, { quantity: 9n, name: "New" }, "quantity", "name");
    await here.call(pauseCoupon, { couponId: coupon.id });
    await here.call(resumeCoupon, { couponId: coupon.id });
    await here.call(deleteCoupon, { couponId: coupon.id, revokeIssued: true });
    const events = await eventsOf(coupon.id);
    expect(events.map(({ kind, detail }) => [kind, detail?.revision, detail?.quantity, detail?.name])).toEqual([
      ["COUPON_CREATED", 1, 5, "Ten percent"],
      ["COUPON_UPDATED", 2, 9, "New"],
      ["COUPON_PAUSED", 3, 9, "New"],
      ["COUPON_RESUMED", 4, 9, "New"],
      ["COUPON_DELETED", 5, 9, "New"],
    ]);
    expect(events.map(({ detail }) => detail?.pausedAt !== null)).toEqual([false, false, true, false, false]);
    expect(events.at(-1)?.detail?.revokedAt).toBe(events.at(-1)?.detail?.deletedAt);
  });

  test("holds no event of a call that was refused", async () => {
    const coupon = await createSample(here, { quantity: 1n });
    await issued(here, coupon.id, "anna");
    await answerOf(issue(here, coupon.id, "anna"));
    await answerOf(issue(here, coupon.id, "bert"));
    await answerOf(here.call(deleteCoupon, { couponId: coupon.id, revision: 7n }));
    expect(await kindsOf(coupon.id)).toEqual(["COUPON_CREATED", "USER_COUPON_ISSUED"]);
  });
});

describe("ListCoupons", () => {
  async function pagesOf(pageSize: number, showDeleted: boolean, between: () => Promise<unknown> = async () => {}) {
    const pages: Coupon[][] = [];
    let pageToken = "";
    do {
      const page = await (pages.length % 2 === 0 ? here : there).call(listCoupons, {
        pageSize,
        pageToken,
        showDeleted,
      });
      pages.push(page.coupons);
      pageToken = page.nextPageToken;
      await between();
    } while (pageToken !== "");
    return pages;
  }

  test("pages through 120 coupons without gaps or doubles while others are created", async () => {
    const wanted = new Set<string>();
    while (wanted.size < 120) {
      const batch = await Promise.all(Array.from({ length: 20 }, () => createSample(here)));
      for (const { id } of batch) wanted.add(id);
    }
    const pages = await pagesOf(25, false, () => createSample(there, { name: "late" }));
    const ids = pages.flat().map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.filter((id) => wanted.has(id))).toHaveLength(120);
    expect(ids).toEqual([...ids].sort().reverse());
    expect(pages.flat().map(({ name }) => name)).not.toContain("late");
    expect(pages.slice(0, -1).map((page) => page.length)).toEqual(pages.slice(0, -1).map(() => 25));
  });

  test("gives 50 when no size is said, and the last page no token", async () => {
    expect((await here.call(listCoupons, {})).coupons).toHaveLength(50);
    const pages = await pagesOf(1_000, true);
    expect(pages).toHaveLength(1);
  });

  test("goes on with another page size", async () => {
    const first = await here.call(listCoupons, { pageSize: 3 });
    const next = await there.call(listCoupons, { pageSize: 5, pageToken: first.nextPageToken });
    const whole = await here.call(listCoupons, { pageSize: 8 });
    expect([...first.coupons, ...next.coupons]).toEqual(whole.coupons);
  });

  test("goes on past coupons that were deleted since, the last one of the page too", async () => {
    const coupons = await Promise.all(Array.from({ length: 6 }, () => createSample(here)));
    const newestFirst = coupons
      .map(({ id }) => id)
      .sort()
      .reverse();
    const first = await here.call(listCoupons, { pageSize: 2 });
    expect(first.coupons.map(({ id }) => id)).toEqual(newestFirst.slice(0, 2));
    await here.call(deleteCoupon, { couponId: newestFirst[1] as string });
    await here.call(deleteCoupon, { couponId: newestFirst[2] as string });
    const next = await there.call(listCoupons, { pageSize: 2, pageToken: first.nextPageToken });
    expect(next.coupons.map(({ id }) => id)).toEqual(newestFirst.slice(3, 5));
  });

  test("says what remains of each, and its state", async () => {
    const limited = await createSample(here, { quantity: 3n });
    const unlimited = await createSample(here);
    const soldOut = await createSample(here, { quantity: 1n });
    const paused = await createSample(here, { quantity: 4n });
    await here.call(pauseCoupon, { couponId: paused.id });
    for (const { id } of [limited, unlimited, soldOut]) await issued(there, id, "anna");
    const { coupons } = await here.call(listCoupons, { pageSize: 10 });
    const seen = [limited, unlimited, soldOut, paused].map(({ id }) => {
      const coupon = coupons.find((one) => one.id === id);
      return [coupon?.issuedCount, coupon?.remainingCount, coupon?.state];
    });
    expect(seen).toEqual([
      [1n, 2n, CouponState.ACTIVE],
      [1n, undefined, CouponState.ACTIVE],
      [1n, 0n, CouponState.SOLD_OUT],
      [0n, 4n, CouponState.PAUSED],
    ]);
  });
});
