import type { Interceptor } from "@connectrpc/connect";
import { within } from "./waiting.js";

/** How a caller proves who it is: by an API key, or by a token, which may be asked for anew for each try. */
export type Credentials = { readonly apiKey: string } | { readonly token: string | (() => string | Promise<string>) };

/** What a header can carry. A line end at the end of a key's file is the usual mistake. */
function checked(text: string, name: string): string {
  if (/^[!-~]+$/.test(text)) return text;
  throw new TypeError(`${name} must be visible ASCII characters, without blanks and line ends`);
}

export function proving(credentials: Credentials): Interceptor {
  if ("token" in credentials && typeof credentials.token === "function") {
    const token = credentials.token;
    return (next) => async (request) => {
      // A supplier that hangs must not outlast the call.
      const text = await within(request.signal, Promise.resolve().then(token));
      request.header.set("authorization", `Bearer ${checked(text, "what credentials.token answers")}`);
      return await next(request);
    };
  }
  const [name, text] =
    "apiKey" in credentials ? ["apiKey", credentials.apiKey] : ["token", credentials.token as string];
  const value = `Bearer ${checked(text, `credentials.${name}`)}`;
  return (next) => async (request) => {
    request.header.set("authorization", value);
    return await next(request);
  };
}
