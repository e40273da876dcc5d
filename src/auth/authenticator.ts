import { anybody, type Principal } from "../domain/principal.js";
import type { Refusal } from "../domain/refusal.js";

/** What a call brings to say who it comes from. */
export interface Credentials {
  /** The value of a header; undefined: it was not sent. */
  header(name: string): string | undefined;
}

/** Finds out who calls, before anything of the call's message is decompressed or decoded. */
export interface Authenticator {
  /** The refusal is UNAUTHENTICATED, and says nothing that helps whoever guesses. */
  authenticate(credentials: Credentials): Principal | Refusal | Promise<Principal | Refusal>;
}

/** Asks nobody. */
export const off: Authenticator = { authenticate: () => anybody };
