import { createHash } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  LineProblem,
  type RejectedLine as RejectedLineMessage,
  type UploadCodesRequest,
  UploadCodesRequestSchema,
  UploadCodesResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import type { CouponType } from "../../domain/coupon.js";
import { Refusal } from "../../domain/refusal.js";
import { inSlices } from "../../platform/slices.js";
import type { CodeStore, RejectedLine } from "../../storage/code-ports.js";
import type { RequestKey } from "../../storage/ports.js";
import { typeOf } from "../message.js";
import { checkLines } from "./upload-lines.js";

export function uploadCodes(store: CodeStore, renew: (couponId: string) => Promise<void>) {
  return async (request: UploadCodesRequest, context: CallContext) => {
    const { target, lines } = request;
    const uploaded = await store.upload(
      {
        target:
          target.case === "type"
            ? { type: typeOf(target.value) as CouponType }
            : { couponId: (target.value ?? "").toLowerCase() },
        request: await uploadKey(request),
      },
      (book, now) => checkLines(lines, book, now),
      context.deadlineMs,
    );
    if (uploaded instanceof Refusal) return uploaded;
    const { couponId, addedCount, rejected } = uploaded;
    if (addedCount > 0) await renew(couponId);
    const duplicateCount = rejected.filter(({ message }) => message === null).length;
    const response = create(UploadCodesResponseSchema, {
      couponId,
      addedCount,
      duplicateCount,
      invalidCount: rejected.length - duplicateCount,
    });
    response.rejectedLines = rejected.map(rejectedMessage);
    return response;
  };
}

function rejectedMessage({ line, message }: RejectedLine): RejectedLineMessage {
  const problem = message === null ? LineProblem.DUPLICATE : LineProblem.INVALID;
  return { $typeName: "coupon.v1.RejectedLine", line, problem, message: message ?? "" };
}

/** As requestKey() makes it, but in slices: 8 MiB at once would hold up other calls. */
async function uploadKey(request: UploadCodesRequest): Promise<RequestKey | null> {
  const { requestId, lines } = request;
  if (requestId === "") return null;
  const hash = createHash("sha256");
  const add = (part: UploadCodesRequest) => hash.update(toBinary(UploadCodesRequestSchema, part));
  add({ ...request, requestId: "", lines: [] });
  await inSlices(lines.length, (from, to) => {
    add(create(UploadCodesRequestSchema, { lines: lines.slice(from, to) }));
  });
  return { method: "UploadCodes", requestId, inputHash: hash.digest() };
}
