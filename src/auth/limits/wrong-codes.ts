import type { CallKind } from "../../domain/caller-limits.js";
import { limitedAs, type Principal } from "../../domain/principal.js";
import { Refusal } from "../../domain/refusal.js";
import { BoundedCache } from "../../platform/bounded-cache.js";
import { steadyMs } from "../../platform/clock.js";
import { hashOf } from "./caller-rates.js";
import { SharedCount, type SharedCounts } from "./shared-count.js";

/** From the first wrong code of a user on; when it is over they are forgotten. */
export const wrongCodesWindowMs = 600_000;
/** After the first wrong code too many; with each further one it is twice as long. */
const firstPauseMs = 1_000;
const longestPauseMs = 300_000;
/** Users that are remembered. Of one that was forgotten the next wrong code tells again how many there were. */
const maxRemembered = 50_000;
/** When it is worth to try again where others of the user's calls are at work. */
const atWorkRetryMs = 500;

export interface WrongCodesOptions {
  /** Wrong codes of one user that have no consequence. */
  readonly free: number;
  /** Absent: each replica counts for itself. */
  readonly shared?: SharedCounts | undefined;
  readonly onLimited: (kind: CallKind) => void;
}

/** How long a user must pause after so many wrong codes, in ms. */
export function pauseMs(wrongCount: number, free: number): number {
  return wrongCount <= free ? 0 : Math.min(longestPauseMs, firstPauseMs * 2 ** (wrongCount - free - 1));
}

/** Makes guessing codes slow: who has named too many wrong ones must pause, longer each time. */
export class WrongCodes {
  private readonly guessers = new BoundedCache<Guesser>(maxRemembered);

  constructor(private readonly options: WrongCodesOptions) {}

  /** For a call that names so many codes: RATE_LIMITED, or what must be told how many of them were wrong. */
  begin(
    caller: Principal,
    userId: string,
    codeCount: number,
    kind: CallKind,
  ): ((wrongCount: number) => void) | Refusal {
    const { free, onLimited } = this.options;
    const guesser = this.guesserOf(limitedAs(caller), userId);
    const nowMs = steadyMs();
    const count = guesser.wrong.at(nowMs);
    const pausesMs = guesser.lastMs + pauseMs(count, free) - nowMs;
    // What is at work may turn out to be wrong. A crowd of guesses is not let in at once, before the first is known.
    const isCrowded = guesser.atWork > 0 && count + guesser.atWork + codeCount > free;
    if (pausesMs > 0 || isCrowded) {
      onLimited(kind);
      const retryAfterMs = pausesMs > 0 ? Math.min(Math.ceil(pausesMs), longestPauseMs) : atWorkRetryMs;
      const message = "too many codes were wrong: the user must pause";
      return new Refusal("RATE_LIMITED", [], message, { retryAfterMs, facts: { limit: "wrong_codes" } });
    }
    guesser.atWork += codeCount;
    return (wrongCount) => {
      guesser.atWork -= codeCount;
      if (wrongCount === 0) return;
      guesser.lastMs = steadyMs();
      guesser.wrong.add(guesser.lastMs, 1, wrongCount);
    };
  }

  private guesserOf(caller: string, userId: string): Guesser {
    const key = hashOf(caller, userId);
    let guesser = this.guessers.get(key);
    if (!guesser) {
      const wrong = new SharedCount({ key, windowMs: wrongCodesWindowMs, shared: this.options.shared });
      guesser = { wrong, lastMs: Number.NEGATIVE_INFINITY, atWork: 0 };
      this.guessers.set(key, guesser);
    }
    return guesser;
  }
}

interface Guesser {
  readonly wrong: SharedCount;
  lastMs: number;
  /** Codes of calls that are not decided. */
  atWork: number;
}
