import { type Refusal, StreamRefused } from "../../domain/refusal.js";
import type { ClientPace } from "../client-pace.js";
import { Failure } from "../error-table.js";
import type { IncomingCall, Invoke } from "../pipeline.js";

/**
 * The messages of a stream, as connect-node takes them: it asks for the next one when the client has taken the one before it. The call is over for
 * the pipeline when it asks no more. `onBegun` is called before the first message; `cut` ends the stream of a client that takes nothing.
 */
export async function* messagesOf(
  invoke: Invoke,
  call: IncomingCall,
  pace: ClientPace,
  onBegun: () => void,
  cut: () => void,
): AsyncGenerator<object, Failure | undefined> {
  let end: { readonly well: () => void; readonly with: (error: unknown) => void } | undefined;
  const begun = await new Promise<{ messages?: AsyncIterable<object>; outcome: Promise<unknown> }>((resolve) => {
    const outcome: Promise<unknown> = invoke(call, (messages: AsyncIterable<object>) => {
      // Not at once: what `invoke` answers is known by then.
      queueMicrotask(() => resolve({ messages, outcome }));
      return new Promise<void>((well, bad) => {
        end = { well, with: bad };
      });
    });
    void outcome.then(() => resolve({ outcome }));
  });
  onBegun();
  let slow: Refusal | undefined;
  try {
    for await (const message of begun.messages ?? []) {
      const taken = pace.begin((why) => {
        slow = why;
        cut();
      });
      try {
        yield message;
      } finally {
        taken();
      }
    }
  } catch (error) {
    end?.with(error);
  } finally {
    if (slow) end?.with(new StreamRefused(slow));
    else end?.well();
  }
  const outcome = await begun.outcome;
  return outcome instanceof Failure ? outcome : undefined;
}
