import type { Credentials } from "./authenticator.js";

/** What an API key begins with; any other bearer token is a JWT. */
export const keyPrefix = "ck_";

/**
 * Of two of its parts that stand side by side no character fits both, so there is one way to match, and a header that does not is
 * found out in time that grows with its length alone. Whoever calls may send 64 KiB of it before anything is known of them.
 */
const form = /^bearer +(\S+)\s*$/i;

/** The token of `authorization: Bearer <token>`; undefined: the call brings none. */
export function bearerOf(credentials: Credentials): string | undefined {
  const header = credentials.header("authorization");
  return header === undefined ? undefined : form.exec(header)?.[1];
}
