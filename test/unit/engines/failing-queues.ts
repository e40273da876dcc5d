import type { OpenQueue, Queue, QueueOptions } from "../../../src/batching/queues.js";
import type { DeadlineMs } from "../../../src/storage/ports/page.js";

export interface Submitted {
  readonly queue: string;
  readonly ask: unknown;
  readonly deadlineMs: DeadlineMs;
}

/** Queues that commit each ask by itself and at once, or fail as a test says. */
export class FailingQueues {
  readonly submitted: Submitted[] = [];
  private readonly failures = new Map<string, Error>();
  private readonly options = new Map<string, unknown>();

  /** From now on the queue answers every ask with this error. */
  fail(queue: string, error: Error): void {
    this.failures.set(queue, error);
  }

  /** What a queue was opened with. */
  optionsOf<Ask, Outcome>(queue: string): QueueOptions<Ask, Outcome> {
    const found = this.options.get(queue);
    if (!found) throw new Error(`no queue ${queue} was opened`);
    return found as QueueOptions<Ask, Outcome>;
  }

  readonly open: OpenQueue = <Ask, Outcome>(queue: string, options: QueueOptions<Ask, Outcome>) => {
    this.options.set(queue, options);
    const submit: Queue<Ask, Outcome>["submit"] = async (ask, deadlineMs) => {
      this.submitted.push({ queue, ask, deadlineMs });
      const failure = this.failures.get(queue);
      if (failure) throw failure;
      const outcomes = await options.commit([ask], false);
      await options.afterCommit?.([ask], outcomes);
      return outcomes[0] as Outcome;
    };
    return { submit };
  };
}
