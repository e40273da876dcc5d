import { Capacity } from "./capacity.js";
import { Rate } from "./rate.js";
import { ReadWindow } from "./read-window.js";

/** How often offered load and capacity are compared, and how soon after a turn of the event loop that brought a flood, or while a crowd waits. */
const windowMs = 100;
const floodWindowMs = 50;
/** So many calls shed in one turn are a flood. */
const floodInTurn = 150;
/** After connections were shed, so long nothing is assessed: what they had sent before is still arriving. */
const settleMs = 100;
/** What shedding a call costs, as a share of what serving one costs: about this much, measured. */
const sheddingCost = 1 / 8;
/** Connections are shed when shedding calls takes more than this share of the work for two windows. */
const maxShedShare = 0.05;
/** Or, for a flood is not waited for, that share in one, or when calls are shed and so many times what can be served arrives. */
const floodShedShare = 0.12;
const floodFactor = 2;
/** And given back when it takes less than this one. */
const calmShedShare = 0.02;
/** Below this share of the event loop's time there is enough left to shed calls one by one. */
const busyLoopShare = 0.7;
/** What is left to the connections that stay, as a share of the capacity: calls that are shed cost less than idle time. */
const keptShare = 1.2;
/** When more had arrived than one turn reads, so many times what was read is taken to arrive; in two windows in a row, no more than half may stay. */
const unreadFactor = 1.5;
const keptWhenBehind = 0.5;
/** The weight of a window in what is offered and shed. */
const offeredWeight = 0.4;
/** While the capacity is not known yet, no more than this share of what is offered is cut at once. */
const guessedCut = 0.7;
/** Connections are taken again as far as what they bring is likely to fit, by this share at a time; beyond that by that one, less often. */
const fittingGrowth = 0.5;
const tryingGrowth = 0.02;
const tryingGrowthMs = 300;
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
  /** Whether as many calls wait as in a flood. */
  readonly isCrowded: () => boolean;
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
  private readonly servedCalls = new Rate(offeredWeight);
  private readonly capacity = new Capacity();
  private readonly window: ReadWindow;
  private readonly now: () => number;
  private assessFromMs = 0;
  private shedAtMs = Number.NEGATIVE_INFINITY;
  private growFromMs = 0;
  private unusedFromMs: number | null = null;
  private wasTooMuch = false;
  private isCheckDue = false;
  private shedInTurn = 0;
  /** null: all that come are taken. */
  private allowed: number | null = null;

  constructor(private readonly options: ShedderOptions) {
    this.now = options.now ?? (() => performance.now());
    this.window = new ReadWindow(this.now);
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

  /** A turn of the event loop has begun to read streams; told by each port, of which the last one counts. */
  turnBegan(): void {
    this.window.turnBegan();
  }

  /** More had arrived than it was to read. */
  turnWasFull(): void {
    this.window.turnWasFull();
  }

  /** A call has arrived. */
  arrived(connection: Sheddable | null): void {
    if (connection) this.loads.get(connection)?.add();
    this.offered.add();
    const leastMs = this.options.isCrowded() ? floodWindowMs : windowMs;
    if (this.isCheckDue || this.window.passedMs < leastMs) return;
    // In one turn of the event loop each connection is read in its turn: only at its end all were heard.
    this.isCheckDue = true;
    this.options.atTurnsEnd(() => this.check(leastMs));
  }

  served(): void {
    this.servedCalls.add();
    this.capacity.served();
  }

  callShed(): void {
    this.shedCalls.add();
    this.shedInTurn += 1;
    if (this.shedInTurn > 1) return;
    this.options.atTurnsEnd(() => {
      const isFlood = this.shedInTurn > floodInTurn;
      this.shedInTurn = 0;
      if (isFlood) this.check(floodWindowMs);
    });
  }

  /** Called when enough has arrived, and by a timer for when nothing does; at the end of a turn. */
  check(leastMs = windowMs): void {
    this.isCheckDue = false;
    const ended = this.window.end(leastMs);
    if (!ended) return;
    const { passedMs, readMs, behind } = ended;
    for (const rate of this.loads.values()) rate.roll(readMs);
    this.offered.roll(readMs);
    this.shedCalls.roll(passedMs);
    const servedBeforePerS = this.servedCalls.lastPerS;
    this.servedCalls.roll(passedMs);
    const lastShedShare = this.shedShare(this.shedCalls.lastPerS);
    this.capacity.roll(passedMs, { isFull: !this.options.hasHeadroom(), isMuchShed: lastShedShare > maxShedShare });
    const isBusy = this.options.busyShare() > busyLoopShare;
    const now = this.now();
    if (now < this.assessFromMs) return;
    const shedShare = this.shedShare(this.shedCalls.perS);
    // Calls are served in batches, and callers who wait for them call again together.
    const servedPerS = Math.max(this.capacity.perS, this.servedCalls.lastPerS, servedBeforePerS);
    const isMuchMore = this.capacity.isKnown && this.offered.lastPerS > floodFactor * servedPerS;
    const isFlood = lastShedShare > floodShedShare || (isMuchMore && this.shedCalls.lastPerS > 0);
    // In two windows: in one it may be callers who have all called at once, and go on when they are answered.
    const isCrowd = isMuchMore && this.options.isCrowded();
    const isTooMuch = isBusy && (isFlood || isCrowd || Math.min(shedShare, lastShedShare) > maxShedShare);
    if (isTooMuch && (this.wasTooMuch || isFlood)) this.shedConnections(now, behind);
    else if (this.allowed !== null && shedShare < calmShedShare) this.giveBack(now);
    this.wasTooMuch = isTooMuch;
  }

  private shedShare(shedPerS: number): number {
    // A mean never comes to nothing, and nothing may have been served.
    if (shedPerS < 1) return 0;
    const costPerS = shedPerS * sheddingCost;
    return costPerS / (costPerS + this.capacity.perS);
  }

  private cut(connection: Sheddable): void {
    this.loads.delete(connection);
    this.leaving.add(connection);
    connection.leave();
  }

  private shedConnections(now: number, behind: number): void {
    const busiest = [...this.loads].sort(([, a], [, b]) => b.perS - a.perS);
    const seenPerS = busiest.reduce((sum, [, { perS }]) => sum + perS, 0);
    // What is shed had waited, and those by whom it had come have gone.
    if (seenPerS === 0) return;
    // A load that has just come is larger than its mean shows: of what arrives now, so much may stay.
    const readPerS = Math.max(this.offered.lastPerS, seenPerS);
    const arrivingPerS = behind > 0 && this.capacity.isKnown ? readPerS * unreadFactor : readPerS;
    const guess = this.capacity.isKnown ? 0 : arrivingPerS * (1 - guessedCut);
    const fits = Math.max(this.capacity.perS * keptShare, guess) / arrivingPerS;
    const keptPerS = (behind > 1 ? Math.min(fits, keptWhenBehind) : fits) * seenPerS;
    let leftPerS = seenPerS;
    let count = 0;
    for (const [connection, { perS }] of busiest) {
      if (leftPerS - perS < keptPerS || count === busiest.length - 1) break;
      leftPerS -= perS;
      count += 1;
      this.cut(connection);
    }
    if (count === 0) return;
    const expectedPerS = (leftPerS / seenPerS) * arrivingPerS;
    this.offered.expect(expectedPerS);
    this.shedCalls.expect(Math.max(0, expectedPerS - this.capacity.perS));
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
    const offeredPerS = Math.max(1, this.offered.perS, this.offered.lastPerS);
    const fitting = Math.floor(open * Math.min((this.capacity.perS * keptShare) / offeredPerS - 1, fittingGrowth));
    const hasHeadroom = this.options.hasHeadroom();
    if (hasHeadroom && fitting > 0) this.allow(open + fitting);
    else if ((hasHeadroom || this.offered.perS < this.capacity.perS) && now >= this.growFromMs) {
      this.growFromMs = now + tryingGrowthMs;
      this.allow(open + Math.ceil(open * tryingGrowth));
    }
  }

  private allow(most: number): void {
    this.allowed = most < this.options.maxConnections ? Math.max(1, most) : null;
    this.limit();
  }

  private limit(): void {
    this.options.setMaxConnections(Math.min(this.most + this.leaving.size, this.options.maxConnections));
  }
}
