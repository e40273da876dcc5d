import type { CallTrace } from "../domain/call-context.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import { GroupCommit, type GroupCommitOptions } from "./group-commit.js";

/** Rows in one commit at most, rows that are worth a second commit beside it, and rows waiting for one. */
const maxBatchSize = 256;
const sideBatchSize = 32;
const maxWaiting = 10_000;

/** A queue that commits what it is given, in batches. */
export interface Queue<Item, Outcome> {
  /** Throws as `GroupCommit.submit` does. */
  submit(item: Item, deadlineMs: DeadlineMs, trace?: CallTrace): Promise<Outcome>;
}

export type QueueOptions<Item, Outcome> = Pick<GroupCommitOptions<Item, Outcome>, "commit" | "keysOf"> &
  Partial<GroupCommitOptions<Item, Outcome>>;

/** Opens a queue; the name is for metrics and logs. */
export type OpenQueue = <Item, Outcome>(name: string, options: QueueOptions<Item, Outcome>) => Queue<Item, Outcome>;

export interface QueuesOptions {
  readonly onBatch: (queue: string, size: number) => void;
  /** How long a row waited for its batch, and how long the store took for a batch. */
  readonly onWaited?: (queue: string, ms: number) => void;
  readonly onCommitted?: (queue: string, ms: number) => void;
  readonly onAfterCommitError: (queue: string, error: unknown) => void;
  /** For all queues that do not say otherwise. */
  readonly sideBatchSize?: number;
}

/** The queues of this process. Each belongs to the engine that has opened it; they are drained together. */
export class Queues {
  private readonly all: { drain(): Promise<void> }[] = [];

  constructor(private readonly options: QueuesOptions) {}

  readonly open: OpenQueue = <Item, Outcome>(name: string, options: QueueOptions<Item, Outcome>) => {
    const queue = new GroupCommit<Item, Outcome>({
      name,
      afterCommit: async () => {},
      onAfterCommitError: (error) => this.options.onAfterCommitError(name, error),
      maxBatchSize,
      maxBatches: 1,
      sideBatchSize: this.options.sideBatchSize ?? sideBatchSize,
      maxWaiting,
      onBatch: (size) => this.options.onBatch(name, size),
      onWaited: (ms) => this.options.onWaited?.(name, ms),
      onCommitted: (ms) => this.options.onCommitted?.(name, ms),
      ...options,
    });
    this.all.push(queue);
    return queue;
  };

  /** Resolves when everything that was submitted so far has been answered. */
  async drain(): Promise<void> {
    await Promise.all(this.all.map((queue) => queue.drain()));
  }
}
