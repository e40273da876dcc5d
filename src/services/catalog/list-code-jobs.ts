import { create } from "@bufbuild/protobuf";
import { type ListCodeJobsRequest, ListCodeJobsResponseSchema } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { CodeJobState } from "../../../gen/coupon/v1/code_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import type { CodeJobState as State } from "../../domain/code.js";
import { Refusal } from "../../domain/refusal.js";
import type { CodeStore } from "../../storage/ports/codes.js";
import { jobMessage } from "../codes/code-job-message.js";
import { nextPageToken, readPage } from "../page-token.js";

export function listCodeJobs(store: CodeStore) {
  return async (request: ListCodeJobsRequest, context: CallContext) => {
    const couponId = request.couponId.toLowerCase();
    const states = request.states.map((state) => CodeJobState[state] as State).sort();
    const parameters = ["ListCodeJobs", couponId, ...states];
    const page = readPage(request, parameters);
    if (page instanceof Refusal) return page;
    const filter = { couponId: couponId || null, states: states.length > 0 ? states : null };
    const { rows, next } = await store.listJobs(filter, page, context.deadlineMs);
    return create(ListCodeJobsResponseSchema, {
      jobs: rows.map(jobMessage),
      nextPageToken: nextPageToken(next, parameters),
    });
  };
}
