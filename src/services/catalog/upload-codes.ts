import { create } from "@bufbuild/protobuf";
import {
  LineProblem,
  type RejectedLine as RejectedLineMessage,
  type UploadCodesRequest,
  UploadCodesRequestSchema,
  UploadCodesResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import { mapInSlices } from "../../platform/json-slices.js";
import type { CodeStore, RejectedLine } from "../../storage/ports/codes.js";
import { targetOf } from "../codes/code-target.js";
import { checkLines } from "../codes/upload-lines.js";
import { bulkRequestKey } from "./bulk-request-key.js";

export function uploadCodes(store: CodeStore, invalidate: (couponId: string) => Promise<void>) {
  return async (request: UploadCodesRequest, context: CallContext) => {
    const { target, lines } = request;
    const uploaded = await store.upload(
      {
        target: targetOf(target),
        request: await bulkRequestKey("UploadCodes", UploadCodesRequestSchema, request, "lines"),
      },
      (book, now) => checkLines(lines, book, now),
      context,
    );
    if (uploaded instanceof Refusal) return uploaded;
    const { couponId, uploadId = "", addedCount, rejected } = uploaded;
    if (addedCount > 0) await invalidate(couponId);
    const duplicateCount = rejected.filter(({ message }) => message === null).length;
    const response = create(UploadCodesResponseSchema, {
      couponId,
      addedCount,
      duplicateCount,
      invalidCount: rejected.length - duplicateCount,
      uploadId,
    });
    response.rejectedLines = await mapInSlices(rejected, rejectedMessage);
    return response;
  };
}

function rejectedMessage({ line, message }: RejectedLine): RejectedLineMessage {
  const problem = message === null ? LineProblem.DUPLICATE : LineProblem.INVALID;
  return { $typeName: "coupon.v1.RejectedLine", line, problem, message: message ?? "" };
}
