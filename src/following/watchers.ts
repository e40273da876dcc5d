import { type Event, type EventFilter, type EventPosition, isWanted } from "../domain/event.js";
import { limitedAs, type Principal } from "../domain/principal.js";
import { Refusal, StreamRefused } from "../domain/refusal.js";
import { steadyMs } from "../platform/clock.js";
import type { EventFeed, Follower } from "./event-feed.js";

/** Events of one message. */
const maxInMessage = 100;
/** How often it is asked again whether whoever watches still may: what was revoked ends within five seconds. */
const checkEveryMs = 2_500;
/** One caller has no more than this share of all, and an end user no more than so many. */
const callersShare = 0.5;
const maxOfUser = 10;

/** Events that are wanted, and up to where everything was looked at. */
export interface Watched {
  readonly events: readonly Event[];
  readonly upTo: EventPosition;
}

export interface WatchOptions {
  readonly from: EventPosition;
  readonly filter: EventFilter;
  readonly heartbeatMs: number;
  /** Aborted when nobody is there any more. */
  readonly signal: AbortSignal;
  /** When it ends, in ms since 1970. */
  readonly untilMs: number;
  /** Why whoever watches may not go on; undefined: it may. */
  readonly mayGoOn: () => Refusal | undefined | Promise<Refusal | undefined>;
}

/** Those who follow the events by this replica. Each holds no more than the message that it is being sent. */
export class Watchers {
  private readonly seats = new Map<string, number>();
  private readonly watching = new Set<Watcher>();
  private isEnding = false;

  constructor(
    private readonly feed: EventFeed,
    private readonly most: number,
    private readonly onSent: (count: number) => void = () => {},
  ) {}

  get size(): number {
    return this.watching.size;
  }

  /** Ends all, who are to go on with another replica. */
  end(): void {
    this.isEnding = true;
    for (const watcher of this.watching) watcher.end(new Refusal("WATCH_ENDED"));
  }

  /** Until the watcher's own end, or one that throws StreamRefused: TOO_MANY_WATCHERS, WATCH_ENDED, CURSOR_TOO_OLD, and what `mayGoOn` says. */
  async *watch(principal: Principal, options: WatchOptions): AsyncGenerator<Watched> {
    if (this.isEnding) throw new StreamRefused(new Refusal("WATCH_ENDED"));
    const giveUp = this.take(principal);
    const watcher = new Watcher(this.feed, options);
    const onAbort = () => watcher.end(null);
    options.signal.addEventListener("abort", onAbort);
    this.watching.add(watcher);
    this.feed.add(watcher);
    try {
      if (options.signal.aborted) return;
      // At once, so that whoever watches has a place to go on from.
      yield { events: [], upTo: options.from };
      for (;;) {
        const watched = await watcher.next();
        if (watched === null) return;
        this.onSent(watched.events.length);
        yield watched;
      }
    } finally {
      this.feed.remove(watcher);
      this.watching.delete(watcher);
      options.signal.removeEventListener("abort", onAbort);
      giveUp();
    }
  }

  private take(principal: Principal): () => void {
    const caller = limitedAs(principal);
    const own = this.seats.get(caller) ?? 0;
    const mostOfOne = principal.userId === undefined ? Math.max(1, Math.floor(this.most * callersShare)) : maxOfUser;
    // Where nobody is asked who they are, all are one caller.
    if (this.watching.size >= this.most || (caller !== "" && own >= mostOfOne))
      throw new StreamRefused(new Refusal("TOO_MANY_WATCHERS"));
    this.seats.set(caller, own + 1);
    return () => {
      const left = (this.seats.get(caller) as number) - 1;
      if (left > 0) this.seats.set(caller, left);
      else this.seats.delete(caller);
    };
  }
}

class Watcher implements Follower {
  private position: EventPosition;
  private ended: { why: Refusal | null } | undefined;
  private wake: (() => void) | undefined;
  private sentMs = steadyMs();
  private checkedMs = steadyMs();

  constructor(
    private readonly feed: EventFeed,
    private readonly options: WatchOptions,
  ) {
    this.position = options.from;
  }

  /** `why`: null when nobody is there to be told. */
  end(why: Refusal | null): void {
    this.ended ??= { why };
    this.wakeUp();
  }

  onHistoryLost(): void {
    this.end(new Refusal("WATCH_ENDED", [], "the primary has lost events; go on after the last cursor"));
  }

  /** While it sends, it looks for itself later; and so it does when it has missed something meanwhile. */
  onEvents(events: readonly Event[], after: EventPosition, upTo: EventPosition): void {
    if (!this.wake || upTo.seq <= this.position.seq) return;
    const { filter } = this.options;
    const isBehind = this.position.seq < after.seq;
    if (isBehind || events.some((event) => event.position.seq > this.position.seq && isWanted(event, filter)))
      this.wakeUp();
    else this.position = upTo;
  }

  onTick(nowMs: number): void {
    if (this.wake && nowMs >= this.dueMs) this.wakeUp();
  }

  /** What is to be sent next; null: it is over. */
  async next(): Promise<Watched | null> {
    for (;;) {
      if (this.ended?.why) throw new StreamRefused(this.ended.why);
      const nowMs = steadyMs();
      if (this.ended) return null;
      if (nowMs >= this.options.untilMs) throw new StreamRefused(new Refusal("DEADLINE_EXCEEDED"));
      if (nowMs - this.checkedMs >= checkEveryMs) {
        const objection = await this.options.mayGoOn();
        if (objection) throw new StreamRefused(objection);
        this.checkedMs = nowMs;
      }
      const { isAtHead, events } = await this.step();
      const isTimeToSay = steadyMs() - this.sentMs >= this.options.heartbeatMs;
      if (events.length > 0 || isTimeToSay) {
        this.sentMs = steadyMs();
        return { events, upTo: this.position };
      }
      if (isAtHead && !this.ended) await this.sleep();
    }
  }

  /** Looks at what comes next, and moves on. */
  private async step(): Promise<{ isAtHead: boolean; events: readonly Event[] }> {
    const kept = this.feed.keptSince(this.position);
    // Nothing is known yet, or everything that is known was seen.
    if (this.feed.position === null || kept?.length === 0) return { isAtHead: true, events: [] };
    const { filter } = this.options;
    const page = kept ? { events: kept, lookedTo: kept.at(-1)!.position } : await this.feed.page(this.position, filter);
    // Of a month that was dropped meanwhile, some may be missing in the page.
    const tooOld = kept ? undefined : await this.feed.check(this.position);
    if (tooOld) throw new StreamRefused(tooOld);
    if (page.lookedTo === null) return { isAtHead: true, events: [] };
    const events: Event[] = [];
    for (const event of page.events) {
      if (!isWanted(event, filter)) continue;
      events.push(event);
      if (events.length < maxInMessage) continue;
      this.position = event.position;
      return { isAtHead: false, events };
    }
    this.position = page.lookedTo;
    return { isAtHead: false, events };
  }

  private sleep(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  private get dueMs(): number {
    const { heartbeatMs, untilMs } = this.options;
    return Math.min(this.sentMs + heartbeatMs, this.checkedMs + checkEveryMs, untilMs);
  }

  private wakeUp(): void {
    const { wake } = this;
    this.wake = undefined;
    wake?.();
  }
}
