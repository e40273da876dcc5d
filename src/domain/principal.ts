import type { OwnLimits } from "./caller-limits.js";

/** What a method may ask of its caller; the proto files say which method asks for what (`coupon.v1.scope`). */
export const scopes = [
  "catalog.read",
  "catalog.write",
  "codes.read",
  "codes.write",
  "issue",
  "use",
  "user_coupons.read",
  "usage.read",
  "events.read",
  "admin",
] as const;

export type Scope = (typeof scopes)[number];

export function isScope(name: string): name is Scope {
  return (scopes as readonly string[]).includes(name);
}

/** Who calls: another service, or an end user. */
export interface Principal {
  /**
   * Tells callers apart for ever: how it was authenticated, a colon, and its name there. Request ids and records
   * belong to it, and limits as `limitedAs` says. Empty when nobody is asked who they are.
   */
  readonly id: string;
  readonly scopes: ReadonlySet<Scope>;
  /** The only user for whom it may act; absent: it is a service, and acts for all. */
  readonly userId?: string;
  /** What it may ask for, where that is not as for all. */
  readonly limits?: OwnLimits;
}

/** Whose limits count. An end user is one, however many subjects the issuer gives to the tokens of the user: one for each session, say. */
export function limitedAs({ id, userId }: Principal): string {
  return userId === undefined ? id : `user:${userId}`;
}

/**
 * Everybody, where nobody is asked who they are. They are no administrators: who comes while the service is open could make a
 * key for the time when it is not.
 */
export const anybody: Principal = { id: "", scopes: new Set(scopes.filter((scope) => scope !== "admin")) };
