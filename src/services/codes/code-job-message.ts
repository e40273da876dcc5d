import { type CodeJob as CodeJobMessage, CodeJobState } from "../../../gen/coupon/v1/code_pb.js";
import { type CodeJob, codeJobState } from "../../domain/code.js";
import { timestampMessage } from "../message.js";

export function jobMessage(job: CodeJob): CodeJobMessage {
  const { id, couponId, pattern, count, madeCount, endedAt } = job;
  const message: CodeJobMessage = {
    $typeName: "coupon.v1.CodeJob",
    id,
    couponId,
    pattern,
    count,
    madeCount,
    state: CodeJobState[codeJobState(job)],
    failure: job.failure ?? "",
    createTime: timestampMessage(job.createdAt),
  };
  if (endedAt) message.endTime = timestampMessage(endedAt);
  return message;
}
