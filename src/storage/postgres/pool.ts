import { DeadlinePassed, Overloaded, StoreUnavailable } from "../../domain/refusal.js";
import { steadyMs } from "../../platform/clock.js";
import type { DeadlineMs } from "../ports/page.js";
import { queryTimeoutMs, translateError } from "./errors.js";

/** What waits for a connection of one pool at most; what comes then is refused as Overloaded. */
const defaultMaxWaiting = 5_000;
/** A timer that fires later than this after its time says that the event loop was held, and answers may lie unread. */
const lateMs = 100;
/** That long they get to be read. */
const graceMs = 100;

/** A connection that may have to be opened anew. Carries one piece of work at a time. */
export interface Link<C> {
  /** A promise: it must be opened first. */
  take(): C | Promise<C>;
  /** Of work that has ended well: why its result counts for nothing. Asked before the connection is given back. */
  objection?(): Error | undefined;
  /** `hasFailed`: of the work that comes to its end. */
  giveBack(hasFailed?: boolean): void;
}

export interface PoolEvents {
  /** How long something waited before it got its connection, in ms. */
  readonly onTaken?: (pool: string, waitedMs: number) => void;
  readonly onAnswered?: () => void;
  /** `isLate`: its caller has been told already that there was no answer in time. */
  readonly onFailed?: (error: unknown, isLate: boolean) => void;
}

export interface PoolOptions<C> {
  readonly name: string;
  readonly links: readonly Link<C>[];
  readonly events?: PoolEvents;
  readonly maxWaiting?: number;
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
  private readonly queue = new Set<WorkItem<C>>();
  private readonly events: PoolEvents;
  private readonly maxWaiting: number;

  constructor({ name, links, events = {}, maxWaiting = defaultMaxWaiting }: PoolOptions<C>) {
    this.name = name;
    this.size = links.length;
    this.free = [...links];
    this.events = events;
    this.maxWaiting = maxWaiting;
  }

  get atWork(): number {
    return this.size - this.free.length;
  }

  get waiting(): number {
    return this.queue.size;
  }

  /**
   * Runs `work` with a connection that is its own until what it returns is settled, also when the caller has gone. The time
   * that it waits for one counts: the answer, or DeadlinePassed or StoreUnavailable, comes within the deadline and
   * `timeoutMs`. Throws Overloaded when too many wait. `work` must not run anything else in the same pool and wait for it.
   *
   * Without an answer in time, the work may still take effect if it had begun.
   */
  run<T>(deadlineMs: DeadlineMs, work: (connection: C) => Promise<T>, timeoutMs = queryTimeoutMs): Promise<T> {
    if (deadlineMs <= steadyMs()) return Promise.reject(new DeadlinePassed());
    const link = this.free.pop();
    if (!link && this.queue.size >= this.maxWaiting) return Promise.reject(new Overloaded());
    return new Promise((resolve, reject) => {
      const item: WorkItem<C> = new WorkItem(deadlineMs, timeoutMs, reject, (mine) => {
        this.events.onTaken?.(this.name, link ? 0 : steadyMs() - item.sinceMs);
        const fail = (error: unknown) => {
          item.stopTimer();
          this.events.onFailed?.(error, item.isOver);
          this.release(mine, true);
          reject(translateError(error));
        };
        startWork(item, work, mine.take()).then((value) => {
          const objection = mine.objection?.();
          if (objection) return fail(objection);
          item.stopTimer();
          this.events.onAnswered?.();
          this.release(mine, false);
          resolve(value);
        }, fail);
      });
      if (link) {
        item.begin(link);
      } else {
        this.queue.add(item);
        item.wait(() => this.queue.delete(item));
      }
    });
  }

  private release(link: Link<C>, hasFailed: boolean): void {
    link.giveBack(hasFailed);
    for (const item of this.queue) {
      this.queue.delete(item);
      if (item.isDead()) continue;
      item.begin(link);
      return;
    }
    this.free.push(link);
  }
}

/** One piece of work and the time that its caller has for it. */
class WorkItem<C> {
  readonly sinceMs = steadyMs();
  isOver = false;
  private untilMs = Number.POSITIVE_INFINITY;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly deadlineMs: DeadlineMs,
    private readonly timeoutMs: number,
    private readonly reject: (error: Error) => void,
    private readonly start: (link: Link<C>) => void,
  ) {}

  /** However long it may run, it does not wait for ever. */
  wait(onOver: () => void): void {
    this.giveUpAfter(Math.min(this.timeoutMs, queryTimeoutMs), onOver);
  }

  begin(link: Link<C>): void {
    if (this.untilMs !== Math.min(this.deadlineMs, this.sinceMs + this.timeoutMs)) {
      this.stopTimer();
      this.giveUpAfter(this.timeoutMs);
    }
    this.start(link);
  }

  /** Ends it when its time is over, which its timer says late when the event loop was held. */
  isDead(): boolean {
    if (!this.isOver && this.untilMs <= steadyMs()) this.end();
    return this.isOver;
  }

  stopTimer(): void {
    clearTimeout(this.timer);
  }

  private giveUpAfter(limitMs: number, onOver?: () => void): void {
    this.untilMs = Math.min(this.deadlineMs, this.sinceMs + limitMs);
    if (this.untilMs === Number.POSITIVE_INFINITY) return;
    const end = () => {
      onOver?.();
      this.end();
    };
    const onTime = () => {
      const isLate = this.untilMs < this.deadlineMs && steadyMs() - this.untilMs > lateMs;
      if (isLate) this.timer = setTimeout(end, graceMs);
      else end();
    };
    this.timer = setTimeout(onTime, this.untilMs - steadyMs());
  }

  private end(): void {
    this.isOver = true;
    this.stopTimer();
    this.reject(
      this.untilMs < this.deadlineMs ? new StoreUnavailable("postgres: no answer in time") : new DeadlinePassed(),
    );
  }
}

/** A statement of the driver is sent by its first `then`; and what throws before there is one has failed like one. */
function startWork<C, T>(item: WorkItem<C>, work: (connection: C) => Promise<T>, taken: C | Promise<C>): Promise<T> {
  // To open a connection may take seconds when there is trouble. What a statement says of its time is said after that.
  if (taken instanceof Promise) {
    return taken.then((connection) => (item.isDead() ? (undefined as T) : work(connection)));
  }
  try {
    return work(taken);
  } catch (error) {
    return Promise.reject(error);
  }
}
