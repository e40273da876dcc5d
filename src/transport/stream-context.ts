import type { Authenticator, Credentials } from "../auth/authenticator.js";
import type { StreamContext } from "../domain/call-context.js";
import type { Principal } from "../domain/principal.js";
import { Refusal } from "../domain/refusal.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import type { Authorization } from "./authorization.js";

/** What a handler may know of the stream that it answers with. */
export function streamOf(
  call: Credentials & { readonly deadlineMs: DeadlineMs },
  signal: AbortSignal,
  { id, userId }: Principal,
  authenticator: Authenticator,
  { authorization }: { readonly authorization: Authorization },
): StreamContext["stream"] {
  const mayGoOn = async () => {
    const known = await authenticator.authenticate(call);
    if (known instanceof Refusal) return known;
    // What it may see was decided for who it was.
    if (known.id !== id || known.userId !== userId) return new Refusal("UNAUTHENTICATED");
    return authorization.mayCall(known);
  };
  return { signal, untilMs: call.deadlineMs, mayGoOn };
}
