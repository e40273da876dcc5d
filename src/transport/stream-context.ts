import type { Authenticator, Credentials } from "../auth/authenticator.js";
import type { StreamContext } from "../domain/call-context.js";
import type { Principal } from "../domain/principal.js";
import { Refusal } from "../domain/refusal.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import type { Authorization } from "./authorization.js";

/** Not for long: the caller is let in again as who it is now. */
const mayLess = new Refusal("UNAUTHENTICATED", [], "the caller may do less than when the stream began: call again");

/** What a handler may know of the stream that it answers with. */
export function streamOf(
  call: Credentials & { readonly deadlineMs: DeadlineMs },
  signal: AbortSignal,
  { id, userId, scopes }: Principal,
  authenticator: Authenticator,
  { authorization }: { readonly authorization: Authorization },
): StreamContext["stream"] {
  const mayGoOn = async () => {
    const known = await authenticator.authenticate(call);
    if (known instanceof Refusal) return known;
    // What it may see was decided for who it was, and for what that one might do.
    if (known.id !== id || known.userId !== userId) return new Refusal("UNAUTHENTICATED");
    const isLess = [...scopes].some((scope) => !known.scopes.has(scope));
    return authorization.mayCall(known) ?? (isLess ? mayLess : undefined);
  };
  return { signal, untilMs: call.deadlineMs, mayGoOn };
}
