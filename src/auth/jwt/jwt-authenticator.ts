import { createHash } from "node:crypto";
import { errors, jwtVerify } from "jose";
import type { Principal } from "../../domain/principal.js";
import { Refusal } from "../../domain/refusal.js";
import { BoundedCache } from "../../platform/bounded-cache.js";
import type { Clock } from "../../platform/clock.js";
import { type Credentials, unauthenticated, type Way } from "../authenticator.js";
import { bearerOf, keyPrefix } from "../bearer.js";
import { type ClaimNames, principalOf } from "./claims.js";
import { type IssuerKeys, KeysAway } from "./issuer-keys.js";

/** Why a token does not hold: for operators, never for whoever brought it. */
export type JwtFault =
  | "too_long"
  | "malformed"
  | "algorithm"
  | "key"
  | "signature"
  | "type"
  | "issuer"
  | "audience"
  | "early"
  | "expired"
  | "claims"
  | "keys_away";

export interface JwtOptions {
  readonly issuer: string;
  readonly audience: string;
  /** Asymmetric ones only. */
  readonly algorithms: readonly string[];
  /** In whose time tokens begin and end. */
  readonly clock: Clock;
  /** How far the issuer's clock may be from that one. */
  readonly clockToleranceS: number;
  readonly claims: ClaimNames;
  readonly keys: IssuerKeys;
  readonly onRefused: (fault: JwtFault) => void;
  /** What the token has not caused. */
  readonly onError: (error: unknown) => void;
}

/** Characters; a longer token is not looked at. */
const maxTokenLength = 8_192;
/** Tokens that are remembered, of each kind. One takes some hundred bytes. */
const maxVerified = 5_000;
const maxRefused = 1_000;
/** So long a token that does not hold is refused without a look at its signature. */
const refusedForMs = 5_000;

/** RFC 9068's access tokens, and what others write there. A token that was made for something else says so here. */
const types: readonly unknown[] = [undefined, "jwt", "at+jwt", "application/jwt", "application/at+jwt"];

interface Verified {
  readonly principal: Principal;
  readonly untilMs: number;
  /** Of the keys by which it was verified. */
  readonly version: number;
}

/** Callers that bring a JWT which the issuer has signed. A token is verified once, and then known by its hash. */
export class JwtAuthenticator implements Way {
  private readonly verified = new BoundedCache<Verified>(maxVerified);
  private readonly refused = new BoundedCache<JwtFault>(maxRefused, { ttl: refusedForMs });
  /** Those that are just being verified; no more than there are calls. */
  private readonly underWay = new Map<string, Promise<Principal | Refusal>>();

  constructor(private readonly options: JwtOptions) {}

  /** Null: there is no JWT. UNAUTHENTICATED; or STORE_UNAVAILABLE, when nobody can tell now whether the token holds. */
  authenticate(credentials: Credentials): Principal | Refusal | null | Promise<Principal | Refusal> {
    const token = bearerOf(credentials);
    if (!token || token.startsWith(keyPrefix)) return null;
    if (token.length > maxTokenLength) return this.refuse("too_long");
    const hash = createHash("sha256").update(token).digest("base64url");
    const known = this.verified.get(hash);
    if (known && this.options.clock.nowMs() < known.untilMs && known.version === this.options.keys.version)
      return known.principal;
    const fault = this.refused.get(hash);
    if (fault) return this.refuse(fault);
    let verifying = this.underWay.get(hash);
    if (!verifying) {
      verifying = this.verify(token, hash).finally(() => this.underWay.delete(hash));
      this.underWay.set(hash, verifying);
    }
    return verifying;
  }

  private async verify(token: string, hash: string): Promise<Principal | Refusal> {
    const { issuer, audience, algorithms, clock, clockToleranceS, claims, keys } = this.options;
    const { version } = keys;
    try {
      const { payload, protectedHeader } = await jwtVerify(token, keys.find, {
        ...{ issuer, audience, algorithms: [...algorithms], requiredClaims: ["exp", "sub"] },
        ...{ clockTolerance: clockToleranceS, currentDate: new Date(clock.nowMs()) },
      });
      if (!types.includes(lowerCase(protectedHeader.typ))) return this.remember(hash, "type");
      const principal = principalOf(payload, claims);
      if (!principal) return this.remember(hash, "claims");
      const untilMs = ((payload.exp as number) + clockToleranceS) * 1_000;
      // Of keys that were fetched meanwhile it is not known whether it was these.
      if (version !== undefined) this.verified.set(hash, { principal, untilMs, version });
      return principal;
    } catch (error) {
      const fault = faultOf(error);
      if (fault === undefined) this.options.onError(error);
      return fault && isLasting(fault) ? this.remember(hash, fault) : this.refuse(fault ?? "key");
    }
  }

  private remember(hash: string, fault: JwtFault): Refusal {
    this.refused.set(hash, fault);
    return this.refuse(fault);
  }

  private refuse(fault: JwtFault): Refusal {
    this.options.onRefused(fault);
    return fault === "keys_away" ? new Refusal("STORE_UNAVAILABLE") : unauthenticated;
  }
}

/** Whoever signs may write there what is no text. */
function lowerCase(type: unknown): unknown {
  return typeof type === "string" ? type.toLowerCase() : type;
}

/** Whether it will be the same in a moment. */
function isLasting(fault: JwtFault): boolean {
  return fault !== "keys_away" && fault !== "key" && fault !== "early";
}

/** What jose has against a token; undefined: nothing, something else has failed. */
function faultOf(error: unknown): JwtFault | undefined {
  if (error instanceof KeysAway) return "keys_away";
  if (error instanceof errors.JWTExpired) return "expired";
  if (error instanceof errors.JWTClaimValidationFailed) return claimFaults[error.claim] ?? "claims";
  if (error instanceof errors.JWSSignatureVerificationFailed) return "signature";
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) return "algorithm";
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) return "key";
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) return "malformed";
  return undefined;
}

const claimFaults: Readonly<Record<string, JwtFault>> = { nbf: "early", iss: "issuer", aud: "audience" };
