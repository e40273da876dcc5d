import { DeadlinePassed, Overloaded, StoreUnavailable } from "../../domain/refusal.js";
import type { DeadlineMs } from "../ports.js";
import { queryTimeoutMs, translateError } from "./errors.js";

/** Entries that wait for a connection of one pool; what comes then is refused as Overloaded. */
const defaultMaxWaiting = 5_000;

/** A connection that may have to be opened anew. Carries one piece of work at a time. */
export interface Link<C> {
  take(): C;
  giveBack(): void;
}

export interface PoolOptions<C> {
  readonly name: string;
  readonly links: readonly Link<C>[];
  readonly maxWaiting?: number;
}

interface Entry<C> {
  /** Starts the work. Never throws. */
  readonly begin: (link: Link<C>) => void;
  /** Rejects the caller when its time is over, and says so. */
  readonly expire: () => void;
  readonly untilMs: number;
}

/**
 * Connections for one purpose, and the queue of what waits for one. Nothing waits in the driver, which would send a second
 * statement after the first on a connection that is at work: here the one that came first is first, what waits for longer
 * than its caller does is never sent, and when work begins it is known how much of its time is left.
 */
export class Pool<C> {
  readonly name: string;
  readonly size: number;
  private readonly free: Link<C>[];
  private readonly waitingNow = new Set<Entry<C>>();
  private readonly maxWaiting: number;

  constructor({ name, links, maxWaiting = defaultMaxWaiting }: PoolOptions<C>) {
    this.name = name;
    this.size = links.length;
    this.free = [...links];
    this.maxWaiting = maxWaiting;
  }

  get atWork(): number {
    return this.size - this.free.length;
  }

  get waiting(): number {
    return this.waitingNow.size;
  }

  /**
   * Runs `work` with a connection that is its own until what it returns is settled, also when the caller has gone. The time
   * that it waits for one counts: the answer, or DeadlinePassed or StoreUnavailable, comes within the deadline and
   * `timeoutMs`. Throws Overloaded when too many wait. `work` must not run anything else in the same pool and wait for it.
   *
   * Without an answer in time, the work may still take effect if it had begun.
   */
  run<T>(deadlineMs: DeadlineMs, work: (connection: C) => Promise<T>, timeoutMs = queryTimeoutMs): Promise<T> {
    const now = Date.now();
    if (deadlineMs <= now) return Promise.reject(new DeadlinePassed());
    const link = this.free.pop();
    if (!link && this.waitingNow.size >= this.maxWaiting) return Promise.reject(new Overloaded());
    return new Promise((resolve, reject) => {
      let isOver = false;
      let timer: NodeJS.Timeout | undefined;
      const expire = (error: Error) => {
        isOver = true;
        clearTimeout(timer);
        this.waitingNow.delete(entry);
        reject(error);
      };
      // Made only when it is needed: the stack of an error costs more than the timer.
      const giveUpAfter = (limitMs: number) => {
        const untilMs = Math.min(deadlineMs, now + limitMs);
        const isDeadline = untilMs === deadlineMs;
        if (untilMs === Number.POSITIVE_INFINITY) return;
        timer = setTimeout(() => expire(isDeadline ? new DeadlinePassed() : noAnswer()), untilMs - Date.now());
      };
      const entry: Entry<C> = {
        untilMs: deadlineMs,
        expire: () => expire(new DeadlinePassed()),
        begin: (mine) => {
          if (waitMs !== timeoutMs) {
            clearTimeout(timer);
            giveUpAfter(timeoutMs);
          }
          startWork(work, mine.take()).then(
            (value) => {
              clearTimeout(timer);
              this.release(mine);
              resolve(value);
            },
            (error) => {
              clearTimeout(timer);
              this.release(mine);
              if (!isOver) reject(translateError(error));
            },
          );
        },
      };
      // However long it may run, it does not wait for ever.
      const waitMs = link ? timeoutMs : Math.min(timeoutMs, queryTimeoutMs);
      giveUpAfter(waitMs);
      if (link) entry.begin(link);
      else this.waitingNow.add(entry);
    });
  }

  private release(link: Link<C>): void {
    link.giveBack();
    const now = Date.now();
    for (const entry of this.waitingNow) {
      // Its timer is late when the event loop is.
      if (entry.untilMs <= now) {
        entry.expire();
        continue;
      }
      this.waitingNow.delete(entry);
      entry.begin(link);
      return;
    }
    this.free.push(link);
  }
}

function noAnswer(): StoreUnavailable {
  return new StoreUnavailable("postgres: no answer in time");
}

/** A statement of the driver is sent by the first `then`; and what throws before it has made one has failed like one. */
function startWork<C, T>(work: (connection: C) => Promise<T>, connection: C): Promise<T> {
  try {
    return work(connection);
  } catch (error) {
    return Promise.reject(error);
  }
}
