const unitsMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** When a call with this `grpc-timeout` header is over, in ms since 1970; Infinity: it has none, or none that can be read. */
export function grpcDeadlineMs(header: string | undefined, nowMs: number): number {
  const found = header === undefined ? null : /^(\d{1,8})([HMSmun])$/.exec(header);
  if (!found) return Number.POSITIVE_INFINITY;
  return nowMs + Number(found[1]) * (unitsMs[found[2] as string] as number);
}
