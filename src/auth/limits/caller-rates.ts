import { createHash } from "node:crypto";
import type { CallerLimits, CallKind } from "../../domain/caller-limits.js";
import { limitedAs, type Principal } from "../../domain/principal.js";
import { Refusal } from "../../domain/refusal.js";
import { BoundedCache } from "../../platform/bounded-cache.js";
import { steadyMs } from "../../platform/clock.js";
import { SharedCount, type SharedCounts } from "./shared-count.js";

export const rateWindowMs = 1_000;
/** Callers, by kind of call, that are remembered. One that was forgotten begins anew, and hears again what others counted. */
const maxRemembered = 20_000;
/**
 * Replicas tell each other after this share of a limit: so what they let in together is over the limit by no more than this
 * for each replica beyond the first, and what arrives while Redis is asked.
 */
const toldShare = 0.02;
/** When it is worth to try again where too many calls are at work: they take about so long. */
const atOnceRetryMs = 200;

/** A call that counts as at work until it ends. */
export interface Begun {
  end(): void;
}

export interface CallerRatesOptions {
  readonly limits: CallerLimits;
  /** Absent: each replica counts for itself. */
  readonly shared?: SharedCounts | undefined;
  readonly onLimited: (kind: CallKind, limit: "rate" | "at_once") => void;
  readonly windowMs?: number;
}

/** Holds each caller to so many calls of a kind a second, and to so many at once. Decides at once, and asks nobody. */
export class CallerRates {
  private readonly counters: BoundedCache<Counter>;

  constructor(private readonly options: CallerRatesOptions) {
    this.counters = new BoundedCache(maxRemembered);
  }

  /** RATE_LIMITED, or a call that must be ended. What is refused does not count. */
  begin(caller: Principal, kind: CallKind): Begun | Refusal {
    const { limits: own } = caller;
    const { limits, onLimited } = this.options;
    const perSecond = own?.[kind]?.perSecond ?? limits[kind].perSecond;
    const atOnce = own?.[kind]?.atOnce ?? limits[kind].atOnce;
    const counter = this.counterOf(limitedAs(caller), kind);
    if (counter.atWork >= atOnce) {
      onLimited(kind, "at_once");
      return limited(`${atOnce} calls of the kind ${kind} are at work`, atOnceRetryMs, { kind, limit: "at_once" });
    }
    const nowMs = steadyMs();
    if (counter.rate.at(nowMs) >= perSecond) {
      onLimited(kind, "rate");
      const leftMs = Math.ceil(counter.rate.leftMs(nowMs));
      return limited(`${perSecond} calls of the kind ${kind} a second`, leftMs, { kind, limit: "rate" });
    }
    counter.rate.add(nowMs, Math.max(1, Math.floor(perSecond * toldShare)));
    counter.atWork += 1;
    return counter;
  }

  private counterOf(caller: string, kind: CallKind): Counter {
    const name = `${kind} ${caller}`;
    let counter = this.counters.get(name);
    if (!counter) {
      const { shared, windowMs = rateWindowMs } = this.options;
      counter = new Counter(new SharedCount({ key: `${hashOf(caller)}:${kind}`, windowMs, shared }));
      this.counters.set(name, counter);
    }
    return counter;
  }
}

class Counter implements Begun {
  atWork = 0;

  constructor(readonly rate: SharedCount) {}

  end(): void {
    this.atWork -= 1;
  }
}

/** Names are long, and nobody else's business. */
export function hashOf(...names: readonly string[]): string {
  return createHash("sha256").update(names.join("\0")).digest("base64url");
}

function limited(what: string, retryAfterMs: number, facts: Readonly<Record<string, string>>): Refusal {
  return new Refusal("RATE_LIMITED", [], `the caller may ask for no more: ${what}`, { retryAfterMs, facts });
}
