import type { JWTPayload } from "jose";
import { isScope, type Principal } from "../../domain/principal.js";

export interface ClaimNames {
  /** Of the scopes: one text with spaces between, or a list of texts. */
  readonly scopes: string;
  /** A token that has it is an end user's, and its value is the user's id. Undefined: all tokens are services'. */
  readonly user: string | undefined;
}

/** OpenID Connect allows a subject no more. */
const maxSubjectLength = 255;

/** Whom a token names; undefined: its claims do not say it clearly. */
export function principalOf(payload: JWTPayload, names: ClaimNames): Principal | undefined {
  const { iss, sub } = payload;
  if (typeof sub !== "string" || sub === "" || sub.length > maxSubjectLength || !isStorable(sub)) return undefined;
  const scopes = new Set(textsIn(payload[names.scopes]).filter(isScope));
  const known = { id: `jwt:${iss}#${sub}`, scopes };
  // Whoever names a user in a way that is not understood must not act for all of them.
  if (names.user === undefined || !Object.hasOwn(payload, names.user)) return known;
  const userId = payload[names.user];
  return typeof userId === "string" && userId !== "" ? { ...known, userId } : undefined;
}

/** Postgres takes no NUL, and what is no Unicode becomes the same bytes as another text of that kind: two callers would be one. */
function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes("\0");
}

function textsIn(claim: unknown): string[] {
  if (typeof claim === "string") return claim.split(" ");
  return Array.isArray(claim) ? claim.filter((one) => typeof one === "string") : [];
}
