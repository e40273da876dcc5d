import { Rate } from "./rate.js";

/** How often offered load and capacity are compared. */
const windowMs = 100;
/** After connections were shed, so long nothing is assessed: what they had sent before is still arriving. */
const settleMs = 100;
/** What shedding a call costs, as a share of what serving one costs: about this much, measured. */
const sheddingCost = 1 / 8;
/** Connections are shed when shedding calls takes more than this share of the work for two windows, or that in one. */
const maxShedShare = 0.05;
const floodShedShare = 0.2;
/** And given back when it takes less than this one. */
const calmShedShare = 0.02;
/** Below this share of the event loop's time there is enough left to shed calls one by one. */
const busyLoopShare = 0.7;
/** What is left to the connections that stay, as a share of the capacity: calls that are shed cost less than idle time. */
const keptShare = 1.2;
/** The weights of a window in what is offered and shed, and in what is served. */
const offeredWeight = 0.4;
const servedWeight = 0.07;
/** Calls that arrive and are shed in one turn of the event loop, after which connections are shed at once. */
const floodInTurn = 150;
/** And only when so many times as much arrives as can be done: less than that can wait until all were heard. */
const floodFactor = 2.5;
/** While the capacity is not known yet, no more than this share of what is offered is cut at once. */
const guessedCut = 0.7;
/** After so many windows with more to do than could be done, the capacity is known. */
const knownAfterWindows = 10;
/** With many permits left, connections are taken again by this share at a time, and else by that one, less often. */
const idleGrowth = 0.5;
const busyGrowth = 0.02;
const busyGrowthMs = 300;
/** They have come when this share of those that may is there. When fewer come for so long, all may. */
const filledShare = 0.8;
const liftAfterMs = 1_000;
/** After connections were shed, for so long a queue of calls is taken for what is left of the flood, or for its return. */
const recentMs = 10_000;

export interface ShedderOptions {
  /** Connections that are taken at most, also when there is little to do. */
  readonly maxConnections: number;
  /** From now on so many connections are taken, those that are open among them. */
  readonly setMaxConnections: (most: number) => void;
  /** The share of the time since it was last asked that the event loop was busy, from 0 to 1. */
  readonly busyShare: () => number;
  /** Whether many permits are left. */
  readonly hasHeadroom: () => boolean;
  /** Told of connections that were asked to go. */
  readonly onShed: (count: number) => void;
  /** Runs something when what the event loop has at hand is done. */
  readonly atTurnsEnd: (work: () => void) => void;
  readonly now?: () => number;
}

/** A connection that can be asked to go: calls under way end, further ones need another connection. */
export interface Sheddable {
  leave(): void;
}

/**
 * Sheds whole connections when so many calls are shed that this alone takes much of the work: the calls of a
 * client that has no connection fail there and cost nothing here. The busiest are asked to go, as long as those that stay
 * offer more than can be served; so a single connection, of a proxy say, is never cut. Later they are let in again, so
 * many at a time that the load does not swing.
 */
export class ConnectionShedder {
  /** The calls that arrive by each connection. */
  private readonly loads = new Map<Sheddable, Rate>();
  /** Those that were asked to go and are still there: what they send is not heard. */
  private readonly leaving = new Set<Sheddable>();
  private readonly offered = new Rate(offeredWeight);
  private readonly shedCalls = new Rate(offeredWeight);
  /** What was served lately while there was enough to do is what can be served. */
  private readonly capacity = new Rate(servedWeight);
  private readonly now: () => number;
  private windowFromMs: number;
  private assessFromMs = 0;
  private shedAtMs = Number.NEGATIVE_INFINITY;
  private growFromMs = 0;
  private unusedFromMs: number | null = null;
  private fullWindows = 0;
  private wasTooMuch = false;
  private isCheckDue = false;
  private readonly turn = { arrived: 0, shed: 0, cuts: 0, heard: new Map<Sheddable, number>() };
  /** null: all that come are taken. */
  private allowed: number | null = null;

  constructor(private readonly options: ShedderOptions) {
    this.now = options.now ?? (() => performance.now());
    this.windowFromMs = this.now();
    options.setMaxConnections(options.maxConnections);
  }

  /** Connections that are taken at most now. */
  get most(): number {
    return this.allowed ?? this.options.maxConnections;
  }

  /** Whether connections were asked to go a moment ago. */
  get hasJustShed(): boolean {
    return this.now() - this.shedAtMs < recentMs;
  }

  opened(connection: Sheddable): void {
    this.loads.set(connection, new Rate(offeredWeight));
  }

  closed(connection: Sheddable): void {
    this.loads.delete(connection);
    if (this.leaving.delete(connection)) this.limit();
  }

  /** A call has arrived. */
  arrived(connection: Sheddable | null): void {
    if (connection) this.loads.get(connection)?.add();
    this.offered.add();
    const { turn } = this;
    if (turn.shed > 0) turn.arrived += 1;
    if (connection && turn.shed > 0) turn.heard.set(connection, (turn.heard.get(connection) ?? 0) + 1);
    if (connection && Math.min(turn.arrived, turn.shed) > floodInTurn) this.cutInTurn(connection);
    if (this.isCheckDue || this.now() - this.windowFromMs < windowMs) return;
    // In one turn of the event loop each connection is read in its turn: only at its end all were heard.
    this.isCheckDue = true;
    this.options.atTurnsEnd(() => this.check());
  }

  served(): void {
    this.capacity.add();
  }

  callShed(): void {
    this.shedCalls.add();
    this.turn.shed += 1;
    if (this.turn.shed > 1) return;
    this.options.atTurnsEnd(() => {
      Object.assign(this.turn, { arrived: 0, shed: 0, cuts: 0 });
      this.turn.heard.clear();
    });
  }

  /** Called when enough has arrived, and by a timer for when nothing does. */
  check(): void {
    this.isCheckDue = false;
    const now = this.now();
    const passedMs = now - this.windowFromMs;
    if (passedMs < windowMs) return;
    this.windowFromMs = now;
    for (const rate of this.loads.values()) rate.roll(passedMs);
    this.offered.roll(passedMs);
    this.shedCalls.roll(passedMs);
    const isFull = !this.options.hasHeadroom();
    // With little to do, little is served; until the service was full once, that is all that is known.
    if (isFull) this.fullWindows += 1;
    if (isFull || !this.knowsCapacity) this.capacity.roll(passedMs, !isFull);
    else this.capacity.skip();
    const busyShare = this.options.busyShare();
    if (now < this.assessFromMs) return;
    const sheddingPerS = this.shedCalls.perS * sheddingCost;
    const shedShare = sheddingPerS === 0 ? 0 : sheddingPerS / (sheddingPerS + this.capacity.perS);
    const isTooMuch = shedShare > maxShedShare && busyShare > busyLoopShare;
    if (isTooMuch && (this.wasTooMuch || shedShare > floodShedShare)) {
      this.shedConnections(now);
    } else if (this.allowed !== null && shedShare < calmShedShare) this.giveBack(now);
    this.wasTooMuch = isTooMuch;
  }

  /**
   * A flood whose first turn of the event loop would take half a second: what else has come by this connection is not
   * looked at, unless it brings less than others do. Of those that were heard in this turn as many stay as can be served.
   */
  private cutInTurn(connection: Sheddable): void {
    const now = this.now();
    const arrivingPerS = this.offered.soFarPerS(now - this.windowFromMs);
    const canPerS = this.knowsCapacity ? this.capacity.perS : arrivingPerS * (1 - guessedCut);
    if (arrivingPerS < canPerS * floodFactor) return;
    const { heard, arrived } = this.turn;
    if ((heard.get(connection) ?? 0) < arrived / heard.size) return;
    const kept = (canPerS * keptShare) / arrivingPerS;
    if (!this.loads.has(connection) || this.turn.cuts + 1 > heard.size * (1 - kept)) return;
    this.turn.cuts += 1;
    this.cut(connection);
    this.assessFromMs = now + settleMs;
    this.shedAtMs = now;
    this.allow(this.loads.size);
    this.options.onShed(1);
  }

  private cut(connection: Sheddable): void {
    this.loads.delete(connection);
    this.leaving.add(connection);
    connection.leave();
  }

  private shedConnections(now: number): void {
    const busiest = [...this.loads].sort(([, a], [, b]) => b.perS - a.perS);
    const seenPerS = busiest.reduce((sum, [, { perS }]) => sum + perS, 0);
    // A load that has just come is larger than its mean shows: of what arrives now, so much may stay.
    const arrivingPerS = Math.max(this.offered.lastPerS, seenPerS);
    const guess = this.knowsCapacity ? 0 : arrivingPerS * (1 - guessedCut);
    const keptPerS = (Math.max(this.capacity.perS * keptShare, guess) / arrivingPerS) * seenPerS;
    let leftPerS = seenPerS;
    let count = 0;
    for (const [connection, { perS }] of busiest) {
      if (leftPerS - perS < keptPerS) break;
      leftPerS -= perS;
      count += 1;
      this.cut(connection);
    }
    if (count === 0) return;
    this.unusedFromMs = null;
    this.assessFromMs = now + settleMs;
    this.shedAtMs = now;
    this.allow(this.loads.size);
    this.options.onShed(count);
  }

  /** As many more as have come when they could; all, when for a while nobody has come who was not let in. */
  private giveBack(now: number): void {
    const open = this.loads.size;
    if (open < (this.allowed as number) * filledShare) {
      this.unusedFromMs ??= now;
      if (now - this.unusedFromMs >= liftAfterMs && this.options.hasHeadroom()) this.allow(this.options.maxConnections);
      return;
    }
    this.unusedFromMs = null;
    if (this.options.hasHeadroom()) this.allow(open + Math.ceil(open * idleGrowth));
    else if (this.offered.perS < this.capacity.perS && now >= this.growFromMs) {
      this.growFromMs = now + busyGrowthMs;
      this.allow(open + Math.ceil(open * busyGrowth));
    }
  }

  private get knowsCapacity(): boolean {
    return this.fullWindows >= knownAfterWindows;
  }

  private allow(most: number): void {
    this.allowed = most < this.options.maxConnections ? Math.max(1, most) : null;
    this.limit();
  }

  private limit(): void {
    this.options.setMaxConnections(Math.min(this.most + this.leaving.size, this.options.maxConnections));
  }
}
