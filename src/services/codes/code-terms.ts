import type { CodeTerms as CodeTermsMessage } from "../../../gen/coupon/v1/code_pb.js";
import type { CodeTerms } from "../../domain/code.js";
import type { FieldViolation } from "../../domain/refusal.js";
import { dateOf, discountMessage, discountOf, timestampMessage } from "../message.js";

/** Fields that cannot be read are violations; their ranges are for checkTerms() of the domain. */
export function termsOf(message: CodeTermsMessage | undefined, violations: FieldViolation[]): CodeTerms {
  const discount = discountOf(message?.discount);
  if (message?.discount && !discount) violations.push({ field: "terms.discount.kind", description: "is required" });
  return {
    discount,
    expiresAt: dateOf(message?.expireTime, "terms.expire_time", violations),
    maxUses: message?.maxUses ?? null,
    maxHolders: message?.maxHolders ?? 1,
  };
}

export function termsMessage({ discount, expiresAt, maxUses, maxHolders }: CodeTerms): CodeTermsMessage {
  const message: CodeTermsMessage = { $typeName: "coupon.v1.CodeTerms", maxHolders };
  if (discount) message.discount = discountMessage(discount);
  if (expiresAt) message.expireTime = timestampMessage(expiresAt);
  if (maxUses !== null) message.maxUses = maxUses;
  return message;
}
