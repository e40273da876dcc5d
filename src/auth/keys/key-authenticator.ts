import { timingSafeEqual } from "node:crypto";
import type { Principal } from "../../domain/principal.js";
import type { Refusal } from "../../domain/refusal.js";
import { BoundedCache } from "../../platform/bounded-cache.js";
import type { Clock } from "../../platform/clock.js";
import { type AuthFailures, type Credentials, unauthenticated, type Way } from "../authenticator.js";
import { bearerOf, keyPrefix } from "../bearer.js";
import type { KeyCopy, KnownKey } from "./key-copy.js";
import { hashOf, idOf } from "./key-text.js";

/** A key that has ended is named in the log so often, however many calls bring it. */
const sayAgainMs = 60_000;
const maxSaid = 1_000;

/** What is compared where there are no keys. */
const nobodysHash = new Uint8Array(32);

export interface KeyAuthenticatorOptions {
  readonly keys: Pick<KeyCopy, "get" | "decoy">;
  readonly clock: Clock;
  readonly failures: AuthFailures;
  readonly log: {
    warn(details: object, message: string): void;
    debug(details: object, message: string): void;
  };
}

function chanceIn(hash: Uint8Array): number {
  return ((hash[0] as number) << 16) | ((hash[1] as number) << 8) | (hash[2] as number);
}

/** API keys: `authorization: Bearer ck_<id>_<secret>`. Asks memory alone. */
export class KeyAuthenticator implements Way {
  private readonly said = new BoundedCache<true>(maxSaid, { ttl: sayAgainMs });

  constructor(private readonly options: KeyAuthenticatorOptions) {}

  authenticate(credentials: Credentials): Principal | Refusal | null {
    const text = bearerOf(credentials);
    if (!text?.startsWith(keyPrefix)) return null;
    const id = idOf(text);
    if (id === undefined) return this.refuse("malformed");
    const key = this.options.keys.get(id);
    const hash = hashOf(text);
    // An unknown id takes the same way as a wrong secret, so that nobody can tell by the time which ids there are: it is compared
    // with some other key's hash, for to fetch one that lies far away in memory takes most of a microsecond.
    const isRight = timingSafeEqual(hash, (key ?? this.options.keys.decoy(chanceIn(hash)))?.hash ?? nobodysHash);
    if (!key) return this.refuse("unknown", id);
    if (!isRight) return this.refuse("wrong secret", id);
    if (key.isRevoked) return this.refuseEnded("revoked", key);
    if (this.options.clock.nowMs() >= key.expiresMs) return this.refuseEnded("expired", key);
    return key.principal;
  }

  /** The public part of the key may be told to the log, and nothing else of it. */
  private refuse(why: string, keyId?: string): Refusal {
    this.options.failures.authFailed("key", why);
    this.options.log.debug({ why, keyId }, "a call brings no key that holds");
    return unauthenticated;
  }

  /** Its owner has the secret, and wants to know why nothing works any more. */
  private refuseEnded(why: string, { id, principal }: KnownKey): Refusal {
    if (!this.said.has(id)) {
      this.said.set(id, true);
      this.options.log.warn({ why, keyId: id, principal: principal.id }, "a key that has ended is still used");
    }
    return this.refuse(why, id);
  }
}
