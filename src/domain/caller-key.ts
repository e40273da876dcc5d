import type { Scope } from "./principal.js";

/** A key by which a caller proves who it is: all that may be known of it. */
export interface CallerKey {
  /** Public: the key begins with it. */
  readonly id: string;
  /** Whose key it is. */
  readonly caller: string;
  readonly scopes: readonly Scope[];
  readonly createdAt: Date;
  /** From when on it does not hold; null: it does not expire. */
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
  /** The key in whose place it came. */
  readonly replacedId: string | null;
}

/** A key just made. Its text is told to whoever asked for it, and kept nowhere. */
export interface FreshKey {
  readonly id: string;
  readonly text: string;
  /** SHA-256 of the text. */
  readonly hash: Uint8Array;
}

/** How long a key that is replaced goes on to hold, unless somebody says otherwise. */
export const defaultOverlapMs = 24 * 3_600_000;

export function holds({ expiresAt, revokedAt }: Pick<CallerKey, "expiresAt" | "revokedAt">, now: Date): boolean {
  return revokedAt === null && (expiresAt === null || now < expiresAt);
}

/** When a key ends that comes in the place of another, unless somebody says otherwise: it has as much time as that one had. */
export function expiryOfNext({ createdAt, expiresAt }: CallerKey, now: Date): Date | null {
  return expiresAt && new Date(now.getTime() + expiresAt.getTime() - createdAt.getTime());
}
