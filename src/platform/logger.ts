import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { type DestinationStream, destination, pino, stdTimeFunctions } from "pino";
import { loggedError } from "./telemetry/logged-error.js";

export type { Logger } from "pino";

/** Lines are written together, so that a call does not wait for the disk; what is buffered is written at the latest now. */
const flushPauseMs = 200;
const flushLimitMs = 1_000;
/** A write that the reader does not let go on is given so long before the process is ended without it. */
const stuckLimitMs = 4_000;
const bufferBytes = 8 * 1024;
/** What is kept while the reader takes nothing: some 10,000 calls. Lines that come then are dropped. */
const maxBufferedBytes = 4 * 1024 * 1024;

export interface ServiceLogger {
  readonly log: Logger;
  /** How many lines were dropped so far, because there was no room for them. */
  droppedLines(): number;
  /** Ends the process, with `process.exitCode` unless another one is given, when what is buffered was written, or after a while without that. */
  exit(code?: number): Promise<void>;
}

/** JSON lines on standard output. `base` is in each of them: which service this is, say. */
export function createLogger(level: string, base: Readonly<Record<string, string>> | null = null): ServiceLogger {
  // Comes before the library's own listener, which flushes synchronously, and for ever while a reader that stands still lets nothing in.
  process.once("exit", () => stream.destroy());
  // This makes a pipe one that refuses what it has no room for, so that a write does not wait for its reader. It is so for all that share the pipe,
  // and until one of them (a Node that ends, say) changes it back.
  void process.stdout;
  // Of a write that is refused and tried again nothing hangs in a thread.
  let isRefused = false;
  const stream = destination({
    ...{ dest: 1, sync: false, minLength: bufferBytes, maxLength: maxBufferedBytes },
    retryEAGAIN: () => {
      isRefused = true;
      return true;
    },
  });
  const serializers = { err: loggedError };
  const log = pino({ level, base, serializers, timestamp: stdTimeFunctions.isoTime }, stream as DestinationStream);
  let dropped = 0;
  let toldOf = 0;
  stream.on("drop", () => {
    dropped += 1;
  });
  // All that was kept is written.
  stream.on("drain", () => {
    const lines = dropped - toldOf;
    toldOf = dropped;
    if (lines > 0) log.warn({ lines }, "lines of the log were dropped, because nobody took those before them");
  });
  // A disk that is full, say. Without a listener it would end the process; what was not written is tried again with the next flush.
  stream.on("error", () => {});
  const timer = setInterval(() => stream.flush(), flushPauseMs);
  timer.unref();
  // Not flushSync: when whoever read the log is gone, that tries again for ever.
  const flushed = () =>
    new Promise<boolean>((resolve) => {
      stream.once("error", () => resolve(true));
      try {
        stream.flush(() => resolve(true));
      } catch {
        resolve(true);
      }
    });
  return {
    log,
    droppedLines: () => dropped,
    exit: async (code) => {
      clearInterval(timer);
      if (code !== undefined) process.exitCode = code;
      isRefused = false;
      // The second time it is what was said of dropped lines.
      const written = flushed().then(flushed);
      const isDone = await Promise.race([written, sleep(flushLimitMs, false)]);
      // The end of a process waits for all its threads, also for one that hangs in a write for ever.
      if (!isDone && !isRefused && !(await Promise.race([written, sleep(stuckLimitMs, false)])))
        process.kill(process.pid, "SIGKILL");
      process.exit();
    },
  };
}
