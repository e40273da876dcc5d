import { randomUUID } from "node:crypto";
import { toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, test } from "vitest";
import { type BatchCreateCouponsResponse, CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { ErrorReason } from "../../gen/coupon/v1/error_reason_pb.js";
import {
  type BatchIssueCouponsResponse,
  BatchIssueCouponsResponseSchema,
  IssuanceService,
} from "../../gen/coupon/v1/issuance_service_pb.js";
import { oneReplica } from "../support/service.js";
import { callJson } from "./checkout.js";
import { callConnect, callNative, pathOf } from "./front-ends.js";
import { type CouponInit, createSample, issue, issued, readCoupon, sampleCoupon } from "./samples.js";

const { batchCreateCoupons, createCoupon } = CatalogService.method;
const { batchIssueCoupons } = IssuanceService.method;
const defaultReceiveLimitBytes = 4 * 1024 * 1024;

const { replica, sql } = await oneReplica(afterAll);
// The driver learns the types of arrays with its first query; one that needs them would come too early.
await sql`SELECT 1`;

const users = (count: number, prefix = randomUUID().slice(0, 8)) =>
  Array.from({ length: count }, (_, index) => `${prefix}-${index}`);

/** The two front ends. */
const callers = [
  {
    way: "native gRPC",
    call: ((method, request) => replica.client.call(method, request)) as typeof replica.client.call,
  },
  {
    way: "Connect",
    call: ((method, request) => callJson(replica.httpPort, method, request)) as typeof replica.client.call,
  },
];

const created = ({ outcomes }: BatchCreateCouponsResponse) =>
  outcomes.map(({ outcome: { case: what, value } }) =>
    what === "error" ? [ErrorReason[value.reason], ...value.fields.map(({ field }) => field)] : what,
  );

const became = ({ outcomes }: BatchIssueCouponsResponse) =>
  outcomes.map(({ outcome: { case: what, value }, replayed }) =>
    what === "error" ? ErrorReason[value.reason] : replayed ? "replayed" : what,
  );

const countOf = (words: readonly unknown[], outcome: string) => words.filter((one) => one === outcome).length;

describe.for(callers)("BatchCreateCoupons by $way", ({ call }) => {
  const wrong: CouponInit = {
    name: "",
    discount: { kind: { case: "fixedAmount", value: { currencyCode: "XQX", minorUnits: 5n } } },
    expireTime: timestampFromMs(1_000),
  };
  const mixed = () => [
    sampleCoupon({ name: "first", quantity: 5n, category: "bulk" }),
    {},
    sampleCoupon({ maxUses: 0, discount: { kind: { case: "percentageBasisPoints", value: 10_001 } } }),
    wrong,
    sampleCoupon({ name: "last", usageCap: 7n, codeBook: {}, throttle: { maxConcurrent: 1, maxPerSecond: 2 } }),
  ];

  test("good ones are created, and bad ones say why, as CreateCoupon does", async () => {
    const coupons = mixed();
    const answer = await call(batchCreateCoupons, { coupons });
    expect(created(answer)).toEqual([
      "coupon",
      ["INVALID_FIELD", "coupon.name", "coupon.discount", "coupon.expire_time"],
      ["INVALID_FIELD", "coupon.discount.percentage_basis_points", "coupon.max_uses"],
      ["INVALID_FIELD", "coupon.name", "coupon.discount.fixed_amount.currency_code", "coupon.expire_time"],
      "coupon",
    ]);
    for (const [index, { outcome }] of answer.outcomes.entries()) {
      const alone = await call(createCoupon, { coupon: coupons[index]! }).then(
        ({ coupon }) => coupon,
        (error: { message: string }) => error.message,
      );
      if (outcome.case === "error") expect(alone).toContain(outcome.value.message);
      else {
        const same = { id: "", createTime: undefined, updateTime: undefined, startTime: undefined };
        expect({ ...outcome.value, ...same }).toEqual({ ...(alone as object), ...same });
        expect(await readCoupon(replica.client, outcome.value?.id ?? "")).toEqual(outcome.value);
      }
    }
  });

  test("each has its event, with the row as it is stored", async () => {
    const { outcomes } = await call(batchCreateCoupons, { coupons: [sampleCoupon(), {}, sampleCoupon()] });
    const ids = outcomes.flatMap(({ outcome }) => (outcome.case === "coupon" ? [outcome.value.id] : []));
    const alone = (await createSample(replica.client)).id;
    const rows = await sql<{ kind: string; keys: string[] }[]>`
      SELECT kind, coupon_id AS "couponId", detail ->> 'id' AS "detailId", array(SELECT jsonb_object_keys(detail) ORDER BY 1) AS keys
      FROM events WHERE coupon_id = ANY (${[...ids, alone]}::uuid[]) ORDER BY seq`;
    expect(rows).toEqual(
      [...ids, alone].map((id) => ({ kind: "COUPON_CREATED", couponId: id, detailId: id, keys: rows[0]?.keys })),
    );
  });

  test("a repeated call gets the same answer and creates nothing", async () => {
    const requestId = randomUUID();
    const coupons = mixed();
    const first = await call(batchCreateCoupons, { coupons, requestId });
    const count = async () => (await sql`SELECT count(*)::int AS count FROM coupons`)[0]?.count as number;
    const before = await count();
    const id = first.outcomes[0]?.outcome.case === "coupon" ? first.outcomes[0].outcome.value.id : "";
    await replica.client.call(CatalogService.method.pauseCoupon, { couponId: id });
    expect(await call(batchCreateCoupons, { coupons, requestId })).toEqual(first);
    const [one, two] = await Promise.all(
      [0, 1].map(() => call(batchCreateCoupons, { coupons, requestId: `${requestId}-2` })),
    );
    expect(one).toEqual(two);
    expect(await count()).toBe(before + 2);
  });

  test("a repeated call gets the same answer also of names that Postgres could not keep", async () => {
    const coupons = ["\0", "\0".repeat(500), "k".repeat(20_000)].map((key) => sampleCoupon({ labels: { [key]: "v" } }));
    const request = { coupons, requestId: randomUUID() };
    const first = await call(batchCreateCoupons, request);
    expect(first.outcomes.map(({ outcome }) => outcome.case)).toEqual(["error", "error", "error"]);
    expect(await call(batchCreateCoupons, request)).toEqual(first);
  });

  test("with another input it is refused", async () => {
    const requestId = randomUUID();
    await call(batchCreateCoupons, { coupons: [sampleCoupon()], requestId });
    const again = call(batchCreateCoupons, { coupons: [sampleCoupon({ name: "other" })], requestId });
    await expect(again).rejects.toMatchObject({ reason: "REQUEST_ID_REUSED" });
  });

  test("1,000 coupons", async () => {
    const coupons = Array.from({ length: 1_000 }, (_, index) => sampleCoupon({ name: `Coupon ${index}` }));
    const { outcomes } = await call(batchCreateCoupons, { coupons, requestId: randomUUID() });
    const names = outcomes.map(({ outcome }) => (outcome.case === "coupon" ? outcome.value.name : outcome.case));
    expect(names).toEqual(coupons.map(({ name }) => name));
  });
});

describe.for(callers)("BatchIssueCoupons by $way", ({ call }) => {
  const batch = (couponId: string, userIds: readonly string[], requestId = "") =>
    call(batchIssueCoupons, { couponId, userIds: [...userIds], requestId });

  test("1,000 users on a coupon of 700; repeated, the same 700 hold theirs", async () => {
    const { id } = await createSample(replica.client, { quantity: 700n });
    const userIds = users(1_000);
    const requestId = randomUUID();
    const first = await batch(id, userIds, requestId);
    expect(first.outcomes.map(({ userId }) => userId)).toEqual(userIds);
    expect(countOf(became(first), "userCoupon")).toBe(700);
    expect(countOf(became(first), "SOLD_OUT")).toBe(300);
    expect((await readCoupon(replica.client, id)).issuedCount).toBe(700n);

    const again = await batch(id, userIds, requestId);
    expect(countOf(became(again), "replayed")).toBe(700);
    const idsOf = ({ outcomes }: BatchIssueCouponsResponse) =>
      outcomes.map(({ outcome }) => (outcome.case === "userCoupon" ? outcome.value.id : outcome.case));
    expect(idsOf(again)).toEqual(idsOf(first));
  });

  test("the longest answer fits what clients receive by default", async () => {
    const { id } = await createSample(replica.client, {
      validityAfterIssue: { seconds: 60n },
      claimWindow: { seconds: 60n },
    });
    const userIds = users(1_000).map((user) => user + "\u{1f39f}".repeat(115));
    const answer = await batch(id, userIds);
    expect(countOf(became(answer), "userCoupon")).toBe(1_000);
    expect(toBinary(BatchIssueCouponsResponseSchema, answer).length).toBeLessThan(defaultReceiveLimitBytes / 2);
  });

  test("mixed outcomes: one holds it already, one has reached the quota", async () => {
    const quota = { group: `g-${randomUUID().slice(0, 8)}`, maxPerDay: 1 };
    const other = await createSample(replica.client, { quota });
    const { id } = await createSample(replica.client, { quota: { ...quota, maxPerDay: 2 } });
    const single = await createSample(replica.client, { quota });
    const [holder, full, fresh] = users(3) as [string, string, string];
    await issued(replica.client, id, holder);
    await issued(replica.client, other.id, full);
    expect(became(await batch(id, [holder, fresh]))).toEqual(["ALREADY_ISSUED", "userCoupon"]);
    const answer = await batch(single.id, [holder, full, ...users(1)]);
    expect(became(answer)).toEqual(["QUOTA_REACHED", "QUOTA_REACHED", "userCoupon"]);
    const refused = answer.outcomes[0]?.outcome;
    expect(refused?.case === "error" && refused.value.message).toContain("quota");
  });

  test.for([
    ["COUPON_NOT_FOUND", async () => randomUUID()],
    ["COUPON_NOT_STARTED", async () => (await createSample(replica.client, { startTime: later() })).id],
    [
      "COUPON_PAUSED",
      async () => {
        const { id } = await createSample(replica.client);
        await replica.client.call(CatalogService.method.pauseCoupon, { couponId: id });
        return id;
      },
    ],
  ] as const)("%s is the outcome of each user", async ([reason, couponIdOf]) => {
    expect(became(await batch(await couponIdOf(), users(3)))).toEqual([reason, reason, reason]);
  });

  test("the request id of another coupon's batch is refused, user by user", async () => {
    const [one, two] = [await createSample(replica.client), await createSample(replica.client)];
    const userIds = users(2);
    const requestId = randomUUID();
    await batch(one.id, userIds, requestId);
    const answer = await batch(two.id, [...userIds, ...users(1)], requestId);
    expect(became(answer)).toEqual(["REQUEST_ID_REUSED", "REQUEST_ID_REUSED", "userCoupon"]);
  });

  test("it does not touch the request ids of IssueCoupon", async () => {
    const { id } = await createSample(replica.client, { maxPerUser: 2 });
    const [user] = users(1) as [string];
    const requestId = randomUUID();
    const alone = await issue(replica.client, id, user, requestId);
    const answer = await batch(id, [user], requestId);
    expect(became(answer)).toEqual(["userCoupon"]);
    expect(answer.outcomes[0]?.outcome.value).not.toMatchObject({ id: alone.userCoupon?.id });
  });
});

const later = () => timestampFromMs(Date.now() + 3_600_000);

test("when the time runs out, each user is told so in time, and a repeated call issues to them", async () => {
  const { id } = await createSample(replica.client);
  const request = { couponId: id, userIds: users(300), requestId: randomUUID() };
  const reserved = await sql.reserve();
  try {
    await reserved`BEGIN`;
    await reserved`SELECT FROM coupons WHERE id = ${id} FOR UPDATE`;
    const stopped = became(await replica.client.call(batchIssueCoupons, request, { timeoutMs: 4_000 }));
    expect(countOf(stopped, "DEADLINE_EXCEEDED")).toBe(300);
    await reserved`ROLLBACK`;
  } finally {
    reserved.release();
  }
  const outcomes = became(await replica.client.call(batchIssueCoupons, request));
  // What was on its way when the time ran out may have been committed since.
  expect(countOf(outcomes, "userCoupon") + countOf(outcomes, "replayed")).toBe(300);
  expect((await readCoupon(replica.client, id)).issuedCount).toBe(300n);
});

describe("bad input of BatchIssueCoupons", () => {
  const couponId = randomUUID();
  const good = ["a", "b"];
  test.for([
    ["a coupon id that is none", { couponId: "x", userIds: good }, ["coupon_id"]],
    ["no users", { couponId, userIds: [] }, ["user_ids"]],
    ["1,001 users", { couponId, userIds: users(1_001) }, ["user_ids"]],
    ["a user twice", { couponId, userIds: ["a", "b", "a"] }, ["user_ids"]],
    [
      "users without and with too long names",
      { couponId, userIds: ["a", "", "x".repeat(129)] },
      ["user_ids[1]", "user_ids[2]"],
    ],
    ["a control character", { couponId, userIds: ["a\u0000"] }, ["user_ids[0]"]],
    ["a request id of 65 characters", { couponId, userIds: good, requestId: "x".repeat(65) }, ["request_id"]],
  ] as const)("%s", async ([, request, fields]) => {
    const init = { ...request, userIds: [...request.userIds] };
    await expect(replica.client.call(batchIssueCoupons, init)).rejects.toMatchObject({
      reason: "INVALID_FIELD",
      fields,
    });
    const answer = await callConnect(replica.httpPort, pathOf(batchIssueCoupons), JSON.stringify(request));
    expect([answer.reason, answer.fields]).toEqual(["INVALID_FIELD", fields]);
  });
});

describe("bad input of BatchCreateCoupons", () => {
  test.for([
    ["no coupons", { coupons: [] }, ["coupons"]],
    ["1,001 coupons", { coupons: Array.from({ length: 1_001 }, () => ({})) }, ["coupons"]],
    ["a request id of 65 characters", { coupons: [{}], requestId: "x".repeat(65) }, ["request_id"]],
  ] as const)("%s", async ([, request, fields]) => {
    const init = { ...request, coupons: [...request.coupons] };
    await expect(replica.client.call(batchCreateCoupons, init)).rejects.toMatchObject({
      reason: "INVALID_FIELD",
      fields,
    });
    const answer = await callConnect(replica.httpPort, pathOf(batchCreateCoupons), JSON.stringify(request));
    expect([answer.reason, answer.fields]).toEqual(["INVALID_FIELD", fields]);
  });

  test("a coupon that cannot be read is named by its path", async () => {
    const body = JSON.stringify({ coupons: [{}, { maxUses: "many" }] });
    const answer = await callConnect(replica.httpPort, pathOf(batchCreateCoupons), body);
    expect([answer.reason, answer.fields]).toEqual(["INVALID_FIELD", ["coupons[1].max_uses"]]);
    expect((await callNative(replica.client, batchCreateCoupons, Uint8Array.of(0x0a, 0x20, 0x61))).reason).toBe(
      "INVALID_FIELD",
    );
  });
});
