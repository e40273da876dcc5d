import type { DescMethodUnary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type AuditRecord, AuditService } from "../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { anybody, scopes } from "../../src/domain/principal.js";
import { Refusal } from "../../src/domain/refusal.js";
import { Authorization } from "../../src/transport/authorization.js";
import { isAdministrative } from "../../src/transport/on-record.js";
import { startFrontEnds } from "./audit-world.js";
import { answerOf, pathOf } from "./front-ends.js";

/** Whatever administrators do, by whichever front end, is on record once; what is refused to them, too; and nothing else is. */
type FrontEnds = Awaited<ReturnType<typeof startFrontEnds>>;
type Json = Record<string, unknown>;

let world: FrontEnds;
beforeAll(async () => {
  world = await startFrontEnds();
});
afterAll(() => world?.close());

const catalog = CatalogService.method;
const nobodyHas = "0192f3a0-0000-7000-8000-00000000abcd";
const coupon = { name: "Ten", discount: { percentageBasisPoints: 1_000 }, expireTime: "2099-01-01T00:00:00Z" };
const admin = (id: string) => ({ id, scopes: new Set(scopes) });

async function post(method: DescMethodUnary, body: Json, requestId = "a-request"): Promise<Json> {
  const response = await fetch(`http://127.0.0.1:${world.httpPort}${pathOf(method)}`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-request-id": requestId },
    body: JSON.stringify(body),
  });
  return (await response.json()) as Json;
}

/** What is on record of a caller, the oldest first. */
async function recordsOf(principal: string): Promise<AuditRecord[]> {
  await world.recordRefused();
  world.caller.principal = admin("key:auditor");
  const records: AuditRecord[] = [];
  let pageToken = "";
  do {
    const page = await world.client.call(AuditService.method.listAuditRecords, { principal, pageSize: 5, pageToken });
    records.push(...page.records);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return records.reverse();
}

const kept = ({ method, outcome, targetId }: AuditRecord) => [method, outcome, targetId];
const parsed = (json: string) => (json === "" ? null : JSON.parse(json));

test("every administrative method leaves one record of each call, with what was before and after", async () => {
  world.caller.principal = admin("key:shop");
  const { client } = world;
  const called: string[] = [];
  const call = async (method: DescMethodUnary, body: Json) => {
    called.push(method.name);
    const answer = await post(method, body);
    expect(answer).not.toHaveProperty("code");
    return answer;
  };
  const made = await call(catalog.createCoupon, { coupon: { ...coupon, quantity: 5 }, requestId: "intent-1" });
  const { id } = made.coupon as { id: string };
  await post(catalog.createCoupon, { coupon: { ...coupon, quantity: 5 }, requestId: "intent-1" });
  await call(catalog.updateCoupon, { coupon: { id: id.toUpperCase(), name: "Eleven" }, updateMask: "name" });
  // By the other front end as well.
  called.push("PauseCoupon");
  await client.call(catalog.pauseCoupon, { couponId: id });
  await call(catalog.resumeCoupon, { couponId: id });
  await call(catalog.deleteCoupon, { couponId: id });
  const book = await call(catalog.createCoupon, { coupon: { ...coupon, codeBook: {} } });
  const couponId = (book.coupon as { id: string }).id;
  await call(catalog.batchCreateCoupons, { coupons: [coupon, { ...coupon, name: "" }] });
  await call(catalog.uploadCodes, { couponId, lines: [{ code: "SECRET-1" }, { code: "SECRET-1" }, { code: "" }] });
  await call(catalog.deleteCodes, { couponId, codes: ["SECRET-1"] });
  const begun = await call(catalog.generateCodes, { couponId, pattern: "SECRET#", count: 1 });
  const { id: jobId } = begun.job as { id: string };
  await call(catalog.cancelCodeJob, { jobId });
  const { createKey, rotateKey, expireKey, revokeKey, setCallerLimits } = AuthService.method;
  const keyed = (await call(createKey, { caller: "till", scopes: ["use"] })) as {
    key: { id: string };
    secret?: string;
  };
  const keyId = keyed.key.id;
  const rotated = await call(rotateKey, { keyId });
  await call(expireKey, { keyId, expireTime: new Date(Date.now() + 3_600_000).toISOString() });
  await call(revokeKey, { keyId });
  await call(setCallerLimits, { caller: "till", limits: { use: { perSecond: 5 } } });
  // Reads leave nothing.
  for (const method of [catalog.getCoupon, catalog.listCodes]) await post(method, { couponId });

  // Of one millisecond they are in no order.
  const records = await recordsOf("key:shop");
  expect(records.map(({ method }) => method).sort()).toEqual([...called].sort());
  expect(records.every(({ outcome }) => outcome === "OK")).toBe(true);
  const recordOf = (name: string, target = id) =>
    records.find(({ method, targetId }) => method === name && targetId === target) as AuditRecord;
  const [created, updated, paused] = ["CreateCoupon", "UpdateCoupon", "PauseCoupon"].map((name) => recordOf(name));
  expect([created?.requestId, created?.callerRequestId, created?.before]).toEqual(["a-request", "intent-1", ""]);
  expect([parsed(created!.after), parsed(updated!.before)]).toEqual([made, made]);
  expect(parsed(updated!.after)).toMatchObject({ coupon: { id, name: "Eleven", revision: "2", quantity: "5" } });
  expect([parsed(paused!.before), parsed(paused!.after)]).toMatchObject([
    { coupon: { state: "COUPON_STATE_ACTIVE" } },
    { coupon: { state: "COUPON_STATE_PAUSED" } },
  ]);
  expect(parsed(recordOf("DeleteCoupon").after)).toMatchObject({ coupon: { state: "COUPON_STATE_DELETED" } });
  for (const name of ["CreateCoupon", "UploadCodes", "DeleteCodes", "GenerateCodes"])
    expect(recordOf(name, couponId).after).not.toBe("");
  expect(recordOf("CancelCodeJob", jobId).callerRequestId).toBe("");
  const batch = parsed(recordOf("BatchCreateCoupons", "").after);
  expect(batch).toMatchObject({ createdCount: 1, refusedCount: 1, couponIds: [expect.any(String)] });
  const uploaded = parsed(recordOf("UploadCodes", couponId).after);
  expect(uploaded).toMatchObject({ addedCount: 1, duplicateCount: 1, invalidCount: 1 });
  const revoked = recordOf("RevokeKey", keyId);
  expect([parsed(revoked.before).key.revokedAt, parsed(revoked.after).key.revokedAt]).toEqual([
    null,
    expect.any(String),
  ]);
  const limited = recordOf("SetCallerLimits", "till");
  expect([parsed(limited.before).caller.limits, parsed(limited.after).caller.limits]).toEqual([
    null,
    { use: { perSecond: 5 } },
  ]);
  // Of a key there is never more than its public part.
  const secrets = JSON.stringify([keyed, rotated]).match(/ck_[^"]+/g) ?? [];
  expect(secrets.length).toBe(2);
  for (const { before, after } of records) for (const secret of secrets) expect(before + after).not.toContain(secret);
  expect(JSON.stringify(records, (_, value) => (typeof value === "bigint" ? 0 : value))).not.toContain("SECRET");
  // No administrative method is left out.
  const own = [AuthService, CatalogService, IssuanceService, UsageService, UserCouponService, AuditService].flatMap(
    ({ methods }) =>
      methods.filter((method) =>
        isAdministrative(method as DescMethodUnary, new Authorization(method as DescMethodUnary).scope),
      ),
  );
  expect([...new Set(called)].sort()).toEqual(own.map(({ name }) => name).sort());
});

test("what is refused leaves one record with its reason; what is no decision, and what is not administrative, leaves none", async () => {
  const ask = async (method: DescMethodUnary, body: Json) => {
    await post(method, body);
    await answerOf(world.client.call(method, body as never));
  };
  world.caller.principal = admin("key:clumsy");
  await ask(catalog.pauseCoupon, { couponId: nobodyHas, requestId: "intent-2" });
  await ask(catalog.pauseCoupon, { couponId: "none" });
  await ask(catalog.cancelCodeJob, { jobId: nobodyHas });
  await ask(catalog.getCoupon, { couponId: nobodyHas });
  await post(catalog.uploadCodes, { couponId: nobodyHas, lines: [{ code: "A" }] });
  await post(catalog.updateCoupon, { coupon: { id: nobodyHas, name: "x" }, updateMask: "name" });
  // What Postgres does not take is not kept, and takes nothing else with it.
  await post(catalog.updateCoupon, { coupon: { id: "a\0b", name: "x" }, updateMask: "name" });
  world.caller.principal = { id: "key:reader", scopes: new Set(["catalog.read"]) };
  await ask(catalog.deleteCoupon, { couponId: nobodyHas });
  await ask(IssuanceService.method.issueCoupon, { userId: "u" });
  world.caller.principal = new Refusal("UNAUTHENTICATED");
  await ask(catalog.deleteCoupon, { couponId: nobodyHas });

  const twice = (one: string[]) => [one, one];
  const clumsy = await recordsOf("key:clumsy");
  expect(clumsy.map(kept).sort()).toEqual([
    ...twice(["CancelCodeJob", "CODE_JOB_NOT_FOUND", nobodyHas]),
    ...twice(["PauseCoupon", "COUPON_NOT_FOUND", nobodyHas]),
    ...twice(["PauseCoupon", "INVALID_FIELD", ""]),
    ["UpdateCoupon", "COUPON_NOT_FOUND", nobodyHas],
    ["UpdateCoupon", "INVALID_FIELD", ""],
    ["UploadCodes", "COUPON_NOT_FOUND", nobodyHas],
  ]);
  const first = { requestId: "a-request", callerRequestId: "intent-2", before: "", after: "" };
  expect(clumsy).toContainEqual(expect.objectContaining(first));
  expect((await recordsOf("key:reader")).map(kept)).toEqual(twice(["DeleteCoupon", "PERMISSION_DENIED", ""]));
  expect((await recordsOf("")).every(({ principal }) => principal !== "")).toBe(true);
});

test("records are for administrators, and a wrong condition is named", async () => {
  world.caller.principal = { ...anybody, id: "key:shop", scopes: new Set(scopes.filter((scope) => scope !== "admin")) };
  const list = (request: object) => answerOf(world.client.call(AuditService.method.listAuditRecords, request));
  expect(await list({})).toMatchObject({ reason: "PERMISSION_DENIED" });
  world.caller.principal = admin("key:auditor");
  const wrong = { pageSize: 101, pageToken: "?", principal: "a\0", endTime: { seconds: -1n, nanos: 0 } };
  const fields = ["page_size", "page_token", "principal", "end_time"];
  expect(await list(wrong)).toMatchObject({ reason: "INVALID_FIELD", fields });
  const { nextPageToken } = await world.client.call(AuditService.method.listAuditRecords, { pageSize: 1 });
  expect(await list({ pageToken: nextPageToken, method: "PauseCoupon" })).toMatchObject({ fields: ["page_token"] });
});
