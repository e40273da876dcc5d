import { create, toJson } from "@bufbuild/protobuf";
import {
  type AuditRecord as AuditRecordMessage,
  type ListAuditRecordsRequest,
  ListAuditRecordsResponseSchema,
} from "../../../gen/coupon/v1/audit_service_pb.js";
import { CouponSchema } from "../../../gen/coupon/v1/coupon_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import type { Coupon } from "../../domain/coupon.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import { isUuid } from "../../platform/new-id.js";
import type { AuditRecord, AuditStore, Snapshot } from "../../storage/ports/audit.js";
import { couponMessage, dateOf, timestampMessage } from "../message.js";
import { nextPageToken, readPage, wrongInPage } from "../page-token.js";

export function listAuditRecords(store: AuditStore) {
  return async (request: ListAuditRecordsRequest, context: CallContext) => {
    const violations: FieldViolation[] = [];
    const { from, until } = timesOf(request, violations);
    if (violations.length > 0) return invalid(...violations);
    const { principal, method } = request;
    const targetId = isUuid(request.targetId) ? request.targetId.toLowerCase() : request.targetId;
    const parameters = ["ListAuditRecords", principal, method, targetId, from, until];
    const page = readPage(request, parameters);
    if (page instanceof Refusal) return page;
    const filter = { principal: principal || null, method: method || null, targetId: targetId || null, from, until };
    const { rows, next } = await store.list(filter, page, context.deadlineMs);
    return create(ListAuditRecordsResponseSchema, {
      records: rows.map(recordMessage),
      nextPageToken: nextPageToken(next, parameters),
    });
  };
}

/** What is wrong whatever is stored. */
export function wrongInAuditFilter(request: ListAuditRecordsRequest): FieldViolation[] {
  const violations: FieldViolation[] = [];
  timesOf(request, violations);
  return [...violations, ...wrongInPage()(request)];
}

function timesOf({ startTime, endTime }: ListAuditRecordsRequest, violations: FieldViolation[]) {
  return { from: dateOf(startTime, "start_time", violations), until: dateOf(endTime, "end_time", violations) };
}

function recordMessage(record: AuditRecord): AuditRecordMessage {
  const { id, happenedAt, principal, method, requestId, callerRequestId, outcome } = record;
  return {
    $typeName: "coupon.v1.AuditRecord",
    ...{ id, principal, method, requestId, callerRequestId, outcome },
    createTime: timestampMessage(happenedAt),
    targetId: record.targetId ?? "",
    before: jsonOf(record.before, happenedAt),
    after: jsonOf(record.after, happenedAt),
  };
}

function jsonOf(snapshot: Snapshot | null, at: Date): string {
  if (snapshot === null) return "";
  if (!isCoupon(snapshot)) return JSON.stringify(snapshot);
  return JSON.stringify({ coupon: toJson(CouponSchema, couponMessage(snapshot.coupon, at)) });
}

function isCoupon(snapshot: Snapshot): snapshot is { readonly coupon: Coupon } {
  return "coupon" in snapshot;
}
