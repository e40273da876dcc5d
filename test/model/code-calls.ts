import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  CancelCodeJobRequestSchema,
  DeleteCodeOutcome,
  DeleteCodesRequestSchema,
  GenerateCodesRequestSchema,
  GetCodeJobRequestSchema,
  GetCouponRequestSchema,
  LineProblem,
  ListCodesRequestSchema,
  UploadCodesRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { type Code, type CodeJob, CodeJobState, CodeStatus } from "../../gen/coupon/v1/code_pb.js";
import { CouponType as CouponTypes } from "../../gen/coupon/v1/coupon_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import type { CallContext } from "../../src/domain/call-context.js";
import { Refusal } from "../../src/domain/refusal.js";
import type { Answer, Call, Target } from "./call.js";
import { inOrder } from "./catalogue.js";
import { discountFields, discountView, msOf } from "./messages.js";
import type { Replica } from "./service.js";
import type { Terms } from "./state.js";

/** The calls about codes, as messages. */

const pageSize = 1_000;

/** What an issue or an upload is about. */
export function targetFields(target: Target) {
  if ("type" in target) return { case: "type" as const, value: CouponTypes[target.type] };
  if ("code" in target) return { case: "code" as const, value: target.code };
  return { case: "couponId" as const, value: target.couponId };
}

function termsFields({ discount, expiresAt, maxUses, maxHolders }: Terms) {
  return {
    ...(discount && { discount: discountFields(discount) }),
    ...(expiresAt !== null && { expireTime: timestampFromMs(expiresAt) }),
    ...(maxUses !== null && { maxUses }),
    // Absent: 1.
    ...(maxHolders !== 1 && { maxHolders }),
  };
}

export async function upload(
  replica: Replica,
  { target, lines, requestId }: Call & { method: "upload" },
  context: CallContext,
): Promise<Answer | Refusal> {
  const message = create(UploadCodesRequestSchema, {
    target:
      "type" in target
        ? { case: "type", value: CouponTypes[target.type] }
        : { case: "couponId", value: target.couponId },
    lines: lines.map(({ code, terms }) => ({ code, terms: termsFields(terms) })),
    requestId,
  });
  const answer = await replica.upload(message, context);
  if (answer instanceof Refusal) return answer;
  const rejected = answer.rejectedLines.map(({ line, problem }) => ({ line, problem: LineProblem[problem] }));
  const countOf = (name: string) => rejected.filter(({ problem }) => problem === name).length;
  const isCounted = answer.duplicateCount === countOf("DUPLICATE") && answer.invalidCount === countOf("INVALID");
  const { couponId, addedCount, uploadId } = answer;
  return { couponId, added: isCounted ? addedCount : -1, rejected, uploadId };
}

export async function generate(
  replica: Replica,
  { couponId, stem, characters, count, terms, requestId }: Call & { method: "generate" },
  context: CallContext,
): Promise<Answer | Refusal> {
  const pattern = `${stem}[${characters}]`;
  const message = create(GenerateCodesRequestSchema, {
    couponId,
    pattern,
    count,
    terms: termsFields(terms),
    requestId,
  });
  const answer = await replica.generate(message, context);
  return answer instanceof Refusal ? answer : jobView(answer.job);
}

/** The rounds of the worker, and what there is of its coupons then. */
export async function runGenerator(
  replica: Replica,
  { jobs }: Call & { method: "runGenerator" },
  context: CallContext,
): Promise<Answer | Refusal> {
  await replica.codeGenerator.run();
  const ended: Answer[] = [];
  for (const { id } of jobs) {
    const answer = await replica.getCodeJob(create(GetCodeJobRequestSchema, { jobId: id }), context);
    if (answer instanceof Refusal) return answer;
    ended.push(jobView(answer.job));
  }
  const codes: { couponId: string; code: string }[] = [];
  const revisions: Record<string, number> = {};
  for (const couponId of new Set(jobs.map((job) => job.couponId))) {
    const found = await replica.getCoupon(create(GetCouponRequestSchema, { couponId }), context);
    if (found instanceof Refusal) return found;
    revisions[couponId] = Number(found.coupon?.revision);
    const listed = await replica.listCodes(create(ListCodesRequestSchema, { couponId, pageSize }), context);
    if (!(listed instanceof Refusal)) codes.push(...listed.codes.map(({ code }) => ({ couponId, code })));
  }
  return { jobs: ended, codes: inOrder(codes), revisions };
}

export function jobView(job: CodeJob | undefined): Answer {
  if (!job) return {};
  const { id, couponId, pattern, count, madeCount: made, failure, state } = job;
  const times = { createdAt: msOf(job.createTime), endedAt: msOf(job.endTime) };
  return { id, couponId, pattern, count, made, failure, ...times, state: CodeJobState[state] };
}

export async function cancelJob(
  replica: Replica,
  { jobId, requestId }: Call & { method: "cancelJob" },
  context: CallContext,
): Promise<Answer | Refusal> {
  const answer = await replica.cancelJob(create(CancelCodeJobRequestSchema, { jobId, requestId }), context);
  return answer instanceof Refusal ? answer : jobView(answer.job);
}

export async function deleteCodes(
  replica: Replica,
  { target, which, requestId }: Call & { method: "deleteCodes" },
  context: CallContext,
): Promise<Answer | Refusal> {
  const source = "id" in which && {
    case: which.kind === "upload" ? ("uploadId" as const) : ("jobId" as const),
    value: which.id,
  };
  const message = create(DeleteCodesRequestSchema, {
    target: targetFields(target) as { case: "couponId"; value: string },
    ...("codes" in which ? { codes: [...which.codes] } : { source: source as { case: "jobId"; value: string } }),
    requestId,
  });
  const answer = await replica.deleteCodes(message, context);
  if (answer instanceof Refusal) return answer;
  const { couponId, deletedCount: deleted, takenCount: taken } = answer;
  return { couponId, deleted, taken, outcomes: answer.outcomes.map((one) => DeleteCodeOutcome[one]) };
}

export function codeView({ code, couponId, terms, status, holderCount, holders, createTime }: Code): Answer {
  return {
    code,
    ...{ couponId, createdAt: msOf(createTime) },
    discount: discountView(terms?.discount) ?? null,
    expiresAt: msOf(terms?.expireTime),
    maxUses: terms?.maxUses ?? null,
    maxHolders: terms?.maxHolders,
    status: CodeStatus[status],
    holderCount,
    holders: holders.map((one) => `${one.userId} ${one.userCouponId} ${UserCouponStatus[one.status]}`),
  };
}
