/**
 * What calls are about, in the order in which they are shed when there is too much to do: administration and reads first;
 * what cancels a usage or ends a lock last, for it gives back what others wait for.
 */
export const callKinds = ["manage", "issue", "use", "undo"] as const;
export type CallKind = (typeof callKinds)[number];

/** How much one caller may ask for of one kind. */
export interface CallLimit {
  /** Calls that begin within one second, at all replicas together. */
  readonly perSecond: number;
  /** Calls that one replica has at work at the same time. */
  readonly atOnce: number;
}

export type CallerLimits = Readonly<Record<CallKind, CallLimit>>;

/** Limits of one caller, instead of those of all; what is absent is as for all. */
export type OwnLimits = Partial<Readonly<Record<CallKind, Partial<CallLimit>>>>;

const leastLimit = 1;
export const mostLimit = 1_000_000;

/** More than one replica serves on most machines: they keep a caller that went wild from taking everybody's share. */
export const usualLimits: CallerLimits = {
  manage: { perSecond: 1_000, atOnce: 500 },
  issue: { perSecond: 5_000, atOnce: 2_000 },
  use: { perSecond: 5_000, atOnce: 2_000 },
  undo: { perSecond: 5_000, atOnce: 2_000 },
};

const form = /^(\w+)=(\d{1,7})\/(\d{1,7})$/;

/** What `issue=500/100,use=200/50` says, and for what it does not name the usual. Answers what is wrong with it if it is none. */
export function readCallerLimits(text: string): CallerLimits | string {
  const named = readOwnLimits(text);
  return typeof named === "string" ? named : { ...usualLimits, ...named };
}

/** Reads `issue=500/100,use=200/50`: calls a second, and calls at once. Answers what is wrong with it if it is none. */
export function readOwnLimits(text: string): Partial<CallerLimits> | string {
  const limits: Partial<Record<CallKind, CallLimit>> = {};
  for (const item of text.split(",")) {
    const [, name, perSecond, atOnce] = form.exec(item.trim()) ?? [];
    const kind = callKinds.find((one) => one === name);
    if (!kind) return `must be some of ${callKinds.map((one) => `${one}=PER_SECOND/AT_ONCE`).join(",")}`;
    if (limits[kind]) return `names ${kind} twice`;
    const limit = { perSecond: Number(perSecond), atOnce: Number(atOnce) };
    if (Object.values(limit).some((value) => value < leastLimit || value > mostLimit))
      return `the limits of ${kind} must be from ${leastLimit} to ${mostLimit}`;
    limits[kind] = limit;
  }
  return limits;
}
