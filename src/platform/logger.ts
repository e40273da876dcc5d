import type { Logger } from "pino";
import { type DestinationStream, destination, pino, stdTimeFunctions } from "pino";
import { loggedError } from "./telemetry/logged-error.js";

export type { Logger } from "pino";

/** Lines are written together, so that a call does not wait for the disk; what is buffered is written at the latest now. */
const flushPauseMs = 200;
const flushLimitMs = 1_000;
const bufferBytes = 8 * 1024;

export interface ServiceLogger {
  readonly log: Logger;
  /** Writes what is buffered, before the process ends. Never throws, and gives up after a while. */
  flush(): Promise<void>;
}

/** JSON lines on standard output. `base` is in each of them: which service this is, say. */
export function createLogger(level: string, base: Readonly<Record<string, string>> | null = null): ServiceLogger {
  // Comes before the library's own listener, which flushes synchronously, and for ever while a reader that stands still lets nothing in.
  process.once("exit", () => stream.destroy());
  const stream = destination({ dest: 1, sync: false, minLength: bufferBytes });
  const serializers = { err: loggedError };
  const log = pino({ level, base, serializers, timestamp: stdTimeFunctions.isoTime }, stream as DestinationStream);
  const timer = setInterval(() => stream.flush(), flushPauseMs);
  timer.unref();
  return {
    log,
    // Not flushSync: when whoever read the log is gone, that tries again for ever.
    flush: () => {
      clearInterval(timer);
      return new Promise((resolve) => {
        setTimeout(resolve, flushLimitMs).unref();
        stream.once("error", () => resolve());
        try {
          stream.flush(() => resolve());
        } catch {
          resolve();
        }
      });
    },
  };
}
