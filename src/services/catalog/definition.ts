import type { FieldMask } from "@bufbuild/protobuf/wkt";
import type { Coupon as CouponMessage, Throttle as ThrottleMessage } from "../../../gen/coupon/v1/coupon_pb.js";
import {
  type CouponDefinition,
  type CouponDraft,
  checkDefinition,
  defaultMaxWaitMs,
  type Throttle,
} from "../../domain/coupon.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import { andAlso } from "../../domain/violations.js";
import { dateOf, discountOf, labelsOf, millisOf, typeOf } from "../message.js";

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
  type: "type",
  throttle: "throttle",
  quota: "quota",
  labels: "labels",
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
    type: typeOf(message.type),
    throttle: throttleOf(message.throttle, violations),
    quota: message.quota ? { group: message.quota.group, maxPerDay: message.quota.maxPerDay } : null,
    labels: labelsOf(message.labels),
    codeBook: message.codeBook ? { exactMatch: message.codeBook.exactMatch } : null,
  };
}

function throttleOf(message: ThrottleMessage | undefined, violations: FieldViolation[]): Throttle | null {
  if (!message) return null;
  const { maxConcurrent, maxPerSecond } = message;
  const maxWaitMs = millisOf(message.maxWait, "coupon.throttle.max_wait", violations) ?? defaultMaxWaitMs;
  return { maxConcurrent, maxPerSecond, maxWaitMs };
}

/** The definition of a new coupon. */
export function newDefinition(message: CouponMessage, now: Date): CouponDefinition | Refusal {
  const violations: FieldViolation[] = [];
  const draft = draftOf(message, violations);
  if (draft.codeBook && draft.quantity !== null) {
    violations.push({
      field: "coupon.quantity",
      description: "is output only for a code book: its stock is its codes",
    });
  }
  // A book is empty until codes are added.
  const quantity = draft.codeBook ? 0 : draft.quantity;
  return withViolations(violations, checkDefinition({ ...draft, quantity, startsAt: draft.startsAt ?? now }));
}

/** The definition, or all that is wrong with it. */
function withViolations(
  violations: readonly FieldViolation[],
  checked: CouponDefinition | Refusal,
): CouponDefinition | Refusal {
  if (violations.length === 0) return checked;
  return invalid(...andAlso(violations, checked instanceof Refusal ? checked.violations : []));
}

/** An error names no more fields, and a mask may have thousands of paths. */
const maxNamedPaths = 20;

/** The fields that a mask names and that can be updated. */
export function readMask(mask: FieldMask | undefined, violations: FieldViolation[]): (keyof CouponDefinition)[] {
  const paths = mask?.paths ?? [];
  if (paths.length === 0) violations.push({ field: "update_mask", description: "names no field" });
  const known = paths.filter((path) => Object.hasOwn(fields, path));
  const unknown = paths.filter((path) => !Object.hasOwn(fields, path));
  const possible = Object.keys(fields).join(", ");
  for (const path of unknown.slice(0, maxNamedPaths)) {
    violations.push({ field: "update_mask", description: `"${path}" cannot be updated; possible: ${possible}` });
  }
  return known.map((path) => fields[path as keyof typeof fields]);
}

/** A definition in which nothing is wrong, and with which nothing can be. */
const plainDefinition: CouponDefinition = {
  name: "any",
  description: "",
  category: "",
  discount: { kind: { case: "percentage", basisPoints: 1 }, maximumAmount: null, minimumOrderAmount: null },
  startsAt: new Date(0),
  expiresAt: new Date("9999-12-31T23:59:59.999Z"),
  quantity: null,
  validityAfterIssueMs: null,
  maxPerUser: defaultMaxPerUser,
  usageCap: null,
  stackable: false,
  maxUses: defaultMaxUses,
  lockDurationMs: defaultLockDurationMs,
  claimWindowMs: null,
  type: null,
  throttle: null,
  quota: null,
  codeBook: null,
  labels: null,
};

/** What is wrong with the masked fields whatever coupon they are for. */
export function wrongInChange(
  message: CouponMessage,
  masked: readonly (keyof CouponDefinition)[],
): readonly FieldViolation[] {
  const { quota } = message;
  const current = { ...plainDefinition, quota: quota ? { group: quota.group, maxPerDay: quota.maxPerDay } : null };
  const changed = changedDefinition(current, message, masked);
  return changed instanceof Refusal ? changed.violations : [];
}

/** The definition after an update. Fields outside the mask do not matter here. */
export function changedDefinition(
  current: CouponDefinition,
  message: CouponMessage,
  masked: readonly (keyof CouponDefinition)[],
): CouponDefinition | Refusal {
  const violations: FieldViolation[] = [];
  const draft = draftOf(message, violations);
  // "coupon.throttle.max_wait" belongs to "throttle".
  const ours = violations.filter(({ field }) => masked.includes(fields[field.split(".")[1] as keyof typeof fields]));
  const wrong = andAlso(ours, fixedAgainst(current, draft, masked));
  const merged: Record<string, unknown> = { codeBook: current.codeBook };
  for (const field of Object.values(fields)) merged[field] = (masked.includes(field) ? draft : current)[field];
  return withViolations(wrong, checkDefinition(merged as unknown as CouponDraft));
}

/** What an update may not touch. */
function fixedAgainst(
  current: CouponDefinition & { readonly isTypePool?: boolean },
  draft: CouponDraft,
  masked: readonly (keyof CouponDefinition)[],
): FieldViolation[] {
  const violations: FieldViolation[] = [];
  if (masked.includes("type") && current.isTypePool && draft.type !== current.type) {
    violations.push({ field: "coupon.type", description: "cannot be changed, for it is the pool of its type" });
  }
  if (masked.includes("discount") && current.isTypePool) {
    violations.push({
      field: "coupon.discount",
      description: "is not of the pool of a type: each of its codes has its own",
    });
  }
  if (masked.includes("quantity") && current.codeBook) {
    violations.push({
      field: "coupon.quantity",
      description: "is output only for a code book: its stock is its codes",
    });
  }
  if (masked.includes("quota") && draft.quota?.group !== current.quota?.group) {
    violations.push({ field: "coupon.quota.group", description: "cannot be changed, nor a quota be added or removed" });
  }
  return violations;
}
