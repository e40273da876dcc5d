import { DeadlinePassed, StoreUnavailable } from "../domain/refusal.js";
import { steadyMs } from "../platform/clock.js";

/** Long waits end at whole multiples of this, so that many calls share one timer. */
const timerStepMs = 32;
const leastSharedMs = 1_000;

interface Wait {
  /** Absent: it is over. */
  end: ((error: Error) => void) | undefined;
}

/** The waits for all handlers at work. */
export class HandlerWaits {
  private readonly waits = new Set<Wait>();

  /** Answers all that what they asked for may or may not be done: the process stops, and waits no longer. */
  giveUp(): void {
    for (const { end } of this.waits) end?.(new StoreUnavailable("the replica stops"));
  }

  /**
   * Every wait inside a handler is bounded; this bounds their sum. When it is over the caller is answered, the handler goes
   * on, and its answer is dropped. `onDone` is called when the handler is done.
   */
  beforeDeadline<T>(answer: Promise<T>, deadlineMs: number, onDone: () => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const leftMs = deadlineMs - steadyMs();
      const waitMs = leftMs < leastSharedMs ? leftMs : Math.floor(leftMs / timerStepMs) * timerStepMs;
      const end = (error: Error) => {
        this.leave(wait);
        reject(error);
      };
      const wait: Wait = { end };
      this.waits.add(wait);
      const timer = setTimeout(() => end(new DeadlinePassed()), waitMs);
      const isDone = () => {
        clearTimeout(timer);
        this.leave(wait);
        onDone();
      };
      answer.then(
        (value) => {
          isDone();
          resolve(value);
        },
        (error) => {
          isDone();
          reject(error);
        },
      );
    });
  }

  /** With all that hangs on it: V8 keeps old copies of the table behind a busy Set, see `ArrivalDeadlines.end`. */
  private leave(wait: Wait): void {
    this.waits.delete(wait);
    wait.end = undefined;
  }
}
