import { create, fromJson, type MessageInitShape } from "@bufbuild/protobuf";
import { type AuditRecord, ListAuditRecordsRequestSchema } from "../../gen/coupon/v1/audit_service_pb.js";
import { CouponSchema } from "../../gen/coupon/v1/coupon_pb.js";
import { Refusal } from "../../src/domain/refusal.js";
import { callContext } from "../support/call-context.js";
import { couponView, msOf } from "./messages.js";
import type { Model } from "./model.js";
import type { Replica } from "./service.js";
import type { AdminRecord } from "./state.js";

const deadlineMs = 20_000;
/** Small, so that a life has some pages. */
const pageSize = 7;

/** All records that meet the conditions, page by page, the oldest first. */
export async function listRecords(
  replica: Replica,
  wanted: MessageInitShape<typeof ListAuditRecordsRequestSchema>,
): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for (let pageToken = ""; ; ) {
    const message = { ...create(ListAuditRecordsRequestSchema, wanted), pageSize, pageToken };
    const page = await replica.listRecords(message, callContext(Date.now() + deadlineMs));
    if (page instanceof Refusal) throw new Error(page.reason);
    records.push(...page.records);
    if (page.nextPageToken === "") return records.reverse();
    pageToken = page.nextPageToken;
  }
}

/** What is wrong with the records that are told: one of each change, none of anything else, in the order of their times. */
export function wrongRecords(told: readonly AuditRecord[], model: Model): string[] {
  const wrong: string[] = [];
  const expected = model.state.records.map((one) => ({ text: expectedText(one), isMatched: false }));
  let last = 0;
  for (const record of told) {
    const text = textOf(record);
    const match = expected.find((one) => !one.isMatched && one.text === text);
    if (!match) {
      wrong.push(`not expected: ${text}`);
      continue;
    }
    match.isMatched = true;
    const at = msOf(record.createTime) ?? 0;
    if (at < last) wrong.push(`too late: ${text}`);
    last = at;
  }
  for (const { isMatched, text } of expected) if (!isMatched) wrong.push(`missing: ${text}`);
  return wrong;
}

function textOf({ method, callerRequestId, targetId, outcome, createTime, ...record }: AuditRecord): string {
  const [before, after] = [viewOf(record.before), viewOf(record.after)];
  // The pool of a type may have been made by any of several calls for it.
  const requestId = method === "upload" && "coupon" in (after ?? {}) ? "" : callerRequestId;
  return JSON.stringify([method, requestId, targetId, outcome, msOf(createTime), sorted(before), sorted(after)]);
}

function expectedText({ method, requestId, targetId, at, before, after }: AdminRecord): string {
  return JSON.stringify([method, requestId, targetId, "OK", at, sorted(before), sorted(after)]);
}

function viewOf(json: string): object | null {
  if (json === "") return null;
  const snapshot = JSON.parse(json);
  return snapshot.coupon ? { coupon: couponView(fromJson(CouponSchema, snapshot.coupon)) } : snapshot;
}

/** The same whatever order its fields were written in. */
function sorted(value: unknown): unknown {
  if (value === null || typeof value !== "object") return value;
  return Object.entries(value)
    .filter(([, one]) => one !== undefined)
    .map(([name, one]) => [name, sorted(one)])
    .sort();
}

/** What may be asked for, and which records that leaves. */
export function recordFilters({ targetId, method, createTime }: AuditRecord) {
  const at = msOf(createTime) ?? 0;
  // Of many coupons there is none, and then it is no condition.
  const isOfTarget = (one: AuditRecord) => targetId === "" || one.targetId === targetId;
  const times = createTime && { startTime: createTime };
  return [
    { asked: { targetId }, isMet: isOfTarget },
    { asked: { method }, isMet: (one: AuditRecord) => one.method === method },
    { asked: { ...times }, isMet: (one: AuditRecord) => (msOf(one.createTime) ?? 0) >= at },
    {
      asked: { targetId, method },
      isMet: (one: AuditRecord) => isOfTarget(one) && one.method === method,
    },
  ];
}
