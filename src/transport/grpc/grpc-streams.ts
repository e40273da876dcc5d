import type * as grpc from "@grpc/grpc-js";
import { StreamRefused } from "../../domain/refusal.js";
import type { ClientPace } from "../client-pace.js";
import type { MaybePromise } from "../messages/decode.js";

type WritableStream = grpc.ServerWritableStream<Buffer, Buffer>;

/** Aborted when the client has cancelled its call, or its connection has gone. */
export function signalOf(call: WritableStream): AbortSignal {
  const gone = new AbortController();
  call.once("cancelled", () => gone.abort());
  if (call.cancelled) gone.abort();
  return gone.signal;
}

/** Sends one message after the other, each when the client has taken the one before it. Throws StreamRefused when it does not. */
export async function sendAll<T>(
  call: WritableStream,
  messages: AsyncIterable<T>,
  encode: (message: T) => MaybePromise<Buffer>,
  pace: ClientPace,
  signal: AbortSignal,
): Promise<void> {
  for await (const message of messages) {
    const bytes = await encode(message);
    if (signal.aborted) return;
    await new Promise<void>((resolve, reject) => {
      const taken = pace.begin((why) => reject(new StreamRefused(why)));
      const end = () => {
        taken();
        signal.removeEventListener("abort", end);
        resolve();
      };
      signal.addEventListener("abort", end);
      call.write(bytes, end);
    });
    if (signal.aborted) return;
  }
}
