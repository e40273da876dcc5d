import { create } from "@bufbuild/protobuf";
import {
  type GenerateCodesRequest,
  GenerateCodesRequestSchema,
  GenerateCodesResponseSchema,
} from "../../../gen/coupon/v1/catalog_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { checkTerms } from "../../domain/code-line.js";
import { checkPattern, PatternError, parsePattern } from "../../domain/code-pattern.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import type { CodeGenerator } from "../../jobs/code-generator.js";
import type { CodeStore } from "../../storage/ports/codes.js";
import { jobMessage } from "../codes/code-job-message.js";
import { termsOf } from "../codes/code-terms.js";
import { requestKey } from "../message.js";

export function generateCodes(store: CodeStore, generator: Pick<CodeGenerator, "kick">) {
  return async (request: GenerateCodesRequest, context: CallContext) => {
    const { count } = request;
    const unfitAnyway = wrongInGenerate(request);
    const pattern = parsePattern(request.pattern);
    if (pattern instanceof PatternError || unfitAnyway.length > 0) return invalid(...unfitAnyway);
    const violations: FieldViolation[] = [];
    const wrong = (field: string, description: string) => violations.push({ field, description });
    const terms = termsOf(request.terms, violations);
    const job = await store.beginJob(
      {
        couponId: request.couponId.toLowerCase(),
        pattern: request.pattern,
        terms,
        count,
        request: requestKey("GenerateCodes", GenerateCodesRequestSchema, request),
      },
      ({ isTypePool, codeBook }, now) => {
        checkTerms(terms, { isTypePool, now }, wrong);
        const unfit = checkPattern(pattern, codeBook?.exactMatch ?? false, count);
        if (unfit) wrong("pattern", unfit);
        return violations.length > 0 ? invalid(...violations) : null;
      },
      context,
    );
    if (job instanceof Refusal) return job;
    generator.kick();
    return create(GenerateCodesResponseSchema, { job: jobMessage(job) });
  };
}

/** What is wrong whatever the book and the time are. */
export function wrongInGenerate(request: GenerateCodesRequest): FieldViolation[] {
  const violations: FieldViolation[] = [];
  const wrong = (field: string, description: string) => violations.push({ field, description });
  const pattern = parsePattern(request.pattern);
  if (pattern instanceof PatternError) wrong("pattern", pattern.description);
  checkTerms(termsOf(request.terms, violations), { isTypePool: false, now: new Date(0) }, wrong);
  return violations;
}
