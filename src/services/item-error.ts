import { create } from "@bufbuild/protobuf";
import { ErrorReason } from "../../gen/coupon/v1/error_reason_pb.js";
import { type ItemError, ItemErrorSchema } from "../../gen/coupon/v1/item_error_pb.js";
import type { FieldViolation, Refusal } from "../domain/refusal.js";

/** What is said of a refusal to people, and the fields that are named: the error table knows. */
export type Explain = (refusal: Refusal) => { readonly text: string; readonly violations: readonly FieldViolation[] };

/** Why one of several things was refused: what a call about this one alone would have said. */
export function itemError(refusal: Refusal, explain: Explain): ItemError {
  const { text, violations } = explain(refusal);
  return create(ItemErrorSchema, { reason: ErrorReason[refusal.reason], message: text, fields: [...violations] });
}
