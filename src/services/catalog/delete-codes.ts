import { create } from "@bufbuild/protobuf";
import {
  DeleteCodeOutcome,
  type DeleteCodesRequest,
  DeleteCodesRequestSchema,
  DeleteCodesResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import type { CodeStore, WhichCodes } from "../../storage/ports/codes.js";
import { targetOf } from "../codes/code-target.js";
import { requestKey } from "../message.js";
import { nextPageToken, readPage, wrongInPage } from "../page-token.js";

export function deleteCodes(store: CodeStore, invalidate: (couponId: string) => Promise<void>) {
  return async (request: DeleteCodesRequest, context: CallContext) => {
    const wrong = wrongInDelete(request);
    if (wrong.length > 0) return invalid(...wrong);
    const { codes, source, pageToken } = request;
    const target = targetOf(request.target);
    const id = (source.value ?? "").toLowerCase();
    const parameters = ["DeleteCodes", target, source.case, id];
    const page = readPage({ pageSize: 0, pageToken }, parameters, "number");
    if (page instanceof Refusal) return page;
    const which: WhichCodes =
      source.case === undefined
        ? { codes }
        : { source: { kind: source.case === "uploadId" ? "upload" : "job", id }, after: page.before };
    const key = requestKey("DeleteCodes", DeleteCodesRequestSchema, request);
    const deleted = await store.delete({ target, which, request: key }, context);
    if (deleted instanceof Refusal) return deleted;
    const { couponId, deletedCount, takenCount, outcomes, next } = deleted;
    if (deletedCount > 0) await invalidate(couponId);
    return create(DeleteCodesResponseSchema, {
      ...{ couponId, deletedCount, takenCount },
      outcomes: outcomes.map((outcome) => DeleteCodeOutcome[outcome]),
      nextPageToken: nextPageToken(next, parameters),
    });
  };
}

/** What is wrong whatever is stored. */
export function wrongInDelete({ codes, source, pageToken }: DeleteCodesRequest): FieldViolation[] {
  const violations: FieldViolation[] = [];
  if (codes.length > 0 === (source.case !== undefined)) {
    violations.push({ field: "codes", description: "exactly one of codes, upload_id and job_id must be set" });
  }
  if (pageToken !== "" && source.case === undefined) {
    violations.push({ field: "page_token", description: "is for upload_id and job_id only" });
  } else violations.push(...wrongInPage("number")({ pageToken }));
  return violations;
}
