import { create } from "@bufbuild/protobuf";
import { type GetCodeJobRequest, GetCodeJobResponseSchema } from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { CodeStore } from "../../storage/ports/codes.js";
import { jobMessage } from "../codes/code-job-message.js";

export function getCodeJob(store: CodeStore) {
  return async (request: GetCodeJobRequest, context: CallContext) => {
    const job = await store.getJob(request.jobId.toLowerCase(), context.deadlineMs);
    if (!job) return new Refusal("CODE_JOB_NOT_FOUND");
    return create(GetCodeJobResponseSchema, { job: jobMessage(job) });
  };
}
