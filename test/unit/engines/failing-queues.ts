import type { OpenQueue, Queue, QueueOptions } from "../../../src/batching/queues.js";
import type { DeadlineMs } from "../../../src/storage/ports/page.js";

export interface Submitted {
  readonly queue: string;
  readonly request: unknown;
  readonly deadlineMs: DeadlineMs;
}

/** Queues that commit each item by itself and at once, or fail as a test says. */
export class FailingQueues {
  readonly submitted: Submitted[] = [];
  private readonly failures = new Map<string, Error>();
  private readonly options = new Map<string, unknown>();

  /** From now on the queue answers every item with this error. */
  fail(queue: string, error: Error): void {
    this.failures.set(queue, error);
  }

  /** What a queue was opened with. */
  optionsOf<Item, Outcome>(queue: string): QueueOptions<Item, Outcome> {
    const found = this.options.get(queue);
    if (!found) throw new Error(`no queue ${queue} was opened`);
    return found as QueueOptions<Item, Outcome>;
  }

  readonly open: OpenQueue = <Item, Outcome>(queue: string, options: QueueOptions<Item, Outcome>) => {
    this.options.set(queue, options);
    const submit: Queue<Item, Outcome>["submit"] = async (request, deadlineMs) => {
      this.submitted.push({ queue, request, deadlineMs });
      const failure = this.failures.get(queue);
      if (failure) throw failure;
      const outcomes = await options.commit([request], false);
      await options.afterCommit?.([request], outcomes);
      return outcomes[0] as Outcome;
    };
    return { submit };
  };
}
