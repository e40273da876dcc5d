import type { Credentials } from "./authenticator.js";

/** What an API key begins with; any other bearer token is a JWT. */
export const keyPrefix = "ck_";

/** The token of `authorization: Bearer <token>`; undefined: the call brings none. */
export function bearerOf(credentials: Credentials): string | undefined {
  const header = credentials.header("authorization");
  return header === undefined ? undefined : /^bearer +(\S*)\s*$/i.exec(header)?.[1];
}
