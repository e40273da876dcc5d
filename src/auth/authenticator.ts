import type { X509Certificate } from "node:crypto";
import { anybody, type Principal } from "../domain/principal.js";
import { Refusal } from "../domain/refusal.js";

/** What a call brings to say who it comes from. */
export interface Credentials {
  /** The value of a header; undefined: it was not sent. */
  header(name: string): string | undefined;
  /** The certificate that the connection's client has shown and that holds; undefined: there is none. */
  certificate?(): X509Certificate | undefined;
}

/** Finds out who calls, before anything of the call's message is decompressed or decoded. */
export interface Authenticator {
  /**
   * The refusal is UNAUTHENTICATED, and says nothing that helps whoever guesses; or STORE_UNAVAILABLE, when nobody can tell now
   * who calls.
   */
  authenticate(credentials: Credentials): Principal | Refusal | Promise<Principal | Refusal>;
}

/** One way to prove who calls. */
export interface Way {
  /** null: the call brings nothing of this kind. */
  authenticate(credentials: Credentials): Principal | Refusal | null | Promise<Principal | Refusal | null>;
}

/** Where it is counted what was wrong; the caller hears the same of everything. */
export interface AuthFailures {
  /** `why`: one of a few words. */
  authFailed(way: string, why: string): void;
}

/** Whatever is wrong. */
export const unauthenticated = new Refusal("UNAUTHENTICATED");

/** Asks nobody. */
export const off: Authenticator = { authenticate: () => anybody };

/** Asks one way after the other. The first that knows what the call brings decides. */
export class Composed implements Authenticator {
  constructor(
    private readonly ways: readonly Way[],
    private readonly failures: AuthFailures,
  ) {}

  authenticate(credentials: Credentials): Principal | Refusal | Promise<Principal | Refusal> {
    for (const [index, way] of this.ways.entries()) {
      const known = way.authenticate(credentials);
      // Only what takes a promise costs one.
      if (known instanceof Promise) return this.goOn(known, credentials, index + 1);
      if (known) return known;
    }
    return this.nothing();
  }

  private async goOn(known: Promise<Principal | Refusal | null>, credentials: Credentials, next: number) {
    let found = await known;
    for (let at = next; !found && at < this.ways.length; at++) found = await this.ways[at]!.authenticate(credentials);
    return found ?? this.nothing();
  }

  private nothing(): Refusal {
    this.failures.authFailed("none", "missing");
    return unauthenticated;
  }
}
