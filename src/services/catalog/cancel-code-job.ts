import { create } from "@bufbuild/protobuf";
import {
  type CancelCodeJobRequest,
  CancelCodeJobRequestSchema,
  CancelCodeJobResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { CodeStore } from "../../storage/ports/codes.js";
import { jobMessage } from "../codes/code-job-message.js";
import { requestKey } from "../message.js";

export function cancelCodeJob(store: CodeStore, invalidate: (couponId: string) => Promise<void>) {
  return async (request: CancelCodeJobRequest, context: CallContext) => {
    const key = requestKey("CancelCodeJob", CancelCodeJobRequestSchema, request);
    const job = await store.cancelJob(request.jobId.toLowerCase(), key, context);
    if (job instanceof Refusal) return job;
    // The gate does not know yet of what was made last.
    await invalidate(job.couponId);
    return create(CancelCodeJobResponseSchema, { job: jobMessage(job) });
  };
}
