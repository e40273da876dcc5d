import type { FieldMask } from "@bufbuild/protobuf/wkt";
import type { Coupon as CouponMessage } from "../../../gen/coupon/v1/coupon_pb.js";
import { type CouponDefinition, type CouponDraft, checkDefinition } from "../../domain/coupon.js";
import { type FieldViolation, invalid, type Refusal } from "../../domain/refusal.js";
import { dateOf, discountOf, millisOf } from "../message.js";

/** What a caller may set, by the names of the proto file. */
const fields = {
  name: "name",
  description: "description",
  category: "category",
  discount: "discount",
  start_time: "startsAt",
  expire_time: "expiresAt",
  quantity: "quantity",
  validity_after_issue: "validityAfterIssueMs",
  max_per_user: "maxPerUser",
  usage_cap: "usageCap",
  stackable: "stackable",
  max_uses: "maxUses",
  lock_duration: "lockDurationMs",
  claim_window: "claimWindowMs",
} as const satisfies Record<string, keyof CouponDefinition>;

const defaultMaxPerUser = 1;
const defaultMaxUses = 1;
const defaultLockDurationMs = 300_000;

function draftOf(message: CouponMessage, violations: FieldViolation[]): CouponDraft {
  return {
    name: message.name,
    description: message.description,
    category: message.category,
    discount: discountOf(message.discount),
    startsAt: dateOf(message.startTime, "coupon.start_time", violations),
    expiresAt: dateOf(message.expireTime, "coupon.expire_time", violations),
    quantity: message.quantity === undefined ? null : Number(message.quantity),
    validityAfterIssueMs: millisOf(message.validityAfterIssue, "coupon.validity_after_issue", violations),
    maxPerUser: message.maxPerUser ?? defaultMaxPerUser,
    usageCap: message.usageCap === undefined ? null : Number(message.usageCap),
    stackable: message.stackable,
    maxUses: message.maxUses ?? defaultMaxUses,
    lockDurationMs: millisOf(message.lockDuration, "coupon.lock_duration", violations) ?? defaultLockDurationMs,
    claimWindowMs: millisOf(message.claimWindow, "coupon.claim_window", violations),
  };
}

/** The definition of a new coupon. */
export function newDefinition(message: CouponMessage, now: Date): CouponDefinition | Refusal {
  const violations: FieldViolation[] = [];
  const draft = draftOf(message, violations);
  if (violations.length > 0) return invalid(...violations);
  return checkDefinition({ ...draft, startsAt: draft.startsAt ?? now });
}

/** Checks a mask before anything is read from the store. */
export function maskedFields(mask: FieldMask | undefined): (keyof CouponDefinition)[] | Refusal {
  const paths = mask?.paths ?? [];
  if (paths.length === 0) return invalid({ field: "update_mask", description: "names no field" });
  const unknown = paths.filter((path) => !Object.hasOwn(fields, path));
  if (unknown.length > 0) {
    const known = Object.keys(fields).join(", ");
    return invalid(
      ...unknown.map((path) => ({
        field: "update_mask",
        description: `"${path}" cannot be updated; possible: ${known}`,
      })),
    );
  }
  return paths.map((path) => fields[path as keyof typeof fields]);
}

/** The definition after an update. Fields outside the mask do not matter here. */
export function changedDefinition(
  current: CouponDefinition,
  message: CouponMessage,
  masked: readonly (keyof CouponDefinition)[],
): CouponDefinition | Refusal {
  const violations: FieldViolation[] = [];
  const draft = draftOf(message, violations);
  const ours = violations.filter(({ field }) =>
    masked.includes(fields[field.replace("coupon.", "") as keyof typeof fields]),
  );
  if (ours.length > 0) return invalid(...ours);
  const merged: Record<string, unknown> = {};
  for (const field of Object.values(fields)) merged[field] = (masked.includes(field) ? draft : current)[field];
  return checkDefinition(merged as unknown as CouponDraft);
}
