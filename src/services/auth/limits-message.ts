import { create } from "@bufbuild/protobuf";
import {
  type CallerLimits as CallerLimitsMessage,
  CallerLimitsSchema,
  CallLimitSchema,
} from "../../../gen/coupon/v1/auth_service_pb.js";
import { type CallLimit, callKinds, type OwnLimits } from "../../domain/caller-limits.js";

/** Null: nothing of it is the caller's own. */
export function ownLimitsOf(message: CallerLimitsMessage | undefined): OwnLimits | null {
  const limits = callKinds.flatMap((kind) => {
    const { perSecond = 0, atOnce = 0 } = message?.[kind] ?? {};
    const limit: Partial<CallLimit> = { ...(perSecond > 0 && { perSecond }), ...(atOnce > 0 && { atOnce }) };
    return Object.keys(limit).length === 0 ? [] : [[kind, limit] as const];
  });
  return limits.length === 0 ? null : Object.fromEntries(limits);
}

export function limitsMessage(limits: OwnLimits | null): CallerLimitsMessage {
  const named = Object.entries(limits ?? {}).map(([kind, limit]) => [kind, create(CallLimitSchema, limit)]);
  return create(CallerLimitsSchema, Object.fromEntries(named));
}
