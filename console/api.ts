import { Problem, problemFrom } from "./model/problem.js";

const keyName = "coupon-console-key";
/** How long an answer may take. The service is told a little less, so that it is the one who says so. */
const patienceMs = 10_000;
const toldMs = 9_000;

/** Where the service is: the page lies directly below it, also behind a proxy that has put it below a path of its own. */
const base = new URL("./", window.location.href.split("#", 1)[0] as string);

export function key(): string {
  return sessionStorage.getItem(keyName) ?? "";
}

/** Of this tab alone, and gone with it. */
export function keepKey(text: string): void {
  if (text) sessionStorage.setItem(keyName, text);
  else sessionStorage.removeItem(keyName);
}

/** `service/Method` of coupon.v1, by the same JSON that every other caller may use. Rejects with a Problem. */
export async function call<T>(method: string, request: object, signal?: AbortSignal): Promise<T> {
  const limit = AbortSignal.timeout(patienceMs);
  let response: Response;
  let body: unknown;
  try {
    response = await fetch(new URL(`coupon.v1.${method}`, base), {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "connect-protocol-version": "1",
        "connect-timeout-ms": String(toldMs),
        ...(key() && { authorization: `Bearer ${key()}` }),
      },
      body: JSON.stringify(request),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
    });
    // An answer that breaks off is a lost connection, and one that is no JSON is of somebody in between.
    const text = await response.text();
    body = parsed(text);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem("NO_ANSWER", "");
  }
  if (!response.ok || body === undefined) throw problemFrom(response.status, body);
  return body as T;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** One for each intent, so that a repeated call does it once. Also where the page came without TLS, and has no randomUUID. */
export function newRequestId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
