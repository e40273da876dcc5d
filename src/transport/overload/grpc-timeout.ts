import type { FieldViolation } from "../../domain/refusal.js";

const unitsMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };
const form = /^(\d{1,8})([HMSmun])$/;

const violation: FieldViolation = {
  field: "grpc-timeout",
  description: "must be a whole number of 8 digits at most and a unit: H, M, S, m (for ms), u or n",
};

/** When a call with this `grpc-timeout` header is over, in ms since 1970; Infinity: it has none, or none that can be read. */
export function grpcDeadlineMs(header: string | undefined, nowMs: number): number {
  const found = header === undefined ? null : form.exec(header);
  if (!found) return Number.POSITIVE_INFINITY;
  return nowMs + Number(found[1]) * (unitsMs[found[2] as string] as number);
}

/** What is wrong with this `grpc-timeout` header. */
export function wrongGrpcTimeout(header: string | undefined): FieldViolation | undefined {
  return header === undefined || form.test(header) ? undefined : violation;
}
