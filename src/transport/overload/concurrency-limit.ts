/** How long latencies are gathered before the limit moves, and how many are needed. */
const windowMs = 200;
const minSamples = 16;
/** Latencies of one window that are looked at. */
const maxSamples = 512;

const firstLimit = 256;
/** However slow a store is, so many calls are at work: fewer than a batch would not make it faster. */
const leastLimit = 64;

/** What half of the calls should take at most. With more at work, only their waiting for each other grows. */
const aimMs = 200;
/** Where stores are slow by themselves, the aim is so many times the least that half of the calls took lately. */
const aimFactor = 2;
const maxAimMs = 1_000;
/** The least is forgotten so slowly that a crowd of minutes does not pass for an ordinary day. */
const leastDrift = 0.002;

/** In one window the limit grows by this share, and at most shrinks to that one. */
const growth = 0.1;
const leastShrink = 0.7;
/** While less than half of it is used, it falls by this share towards its first value: a crowd finds it where it was. */
const unusedShrink = 0.02;

/**
 * How many calls may be at work at once: found by additive increase and multiplicative decrease on what a call takes, as
 * Netflix' concurrency-limits has it. While half of the calls take longer than the aim, there are fewer from window to
 * window; while they do not and calls are shed, there are more.
 */
export class ConcurrencyLimit {
  private limit: number;
  private samples: number[] = [];
  private windowFromMs = 0;
  /** Whether somebody had to wait, or was shed, since the window began. */
  private wanted = false;
  private leastMs = Number.POSITIVE_INFINITY;
  private mostAtWork = 0;
  private lastMedianMs = 0;

  /** `most`: what it never exceeds. */
  constructor(private readonly most: number) {
    this.limit = Math.min(firstLimit, most);
  }

  /** Calls that may be at work. */
  get value(): number {
    return this.limit;
  }

  /** What half of the calls took at most, lately, in ms. */
  get medianMs(): number {
    return this.lastMedianMs;
  }

  /** A call found no permit. */
  missed(): void {
    this.wanted = true;
  }

  /** A call was at work for `latencyMs`, at the end one of `atWork`, and ended at `nowMs`. */
  sample(latencyMs: number, atWork: number, nowMs: number): void {
    this.mostAtWork = Math.max(this.mostAtWork, atWork);
    if (this.samples.length < maxSamples) this.samples.push(latencyMs);
    if (nowMs - this.windowFromMs < windowMs || this.samples.length < minSamples) return;
    this.lastMedianMs = median(this.samples);
    this.move();
    this.samples = [];
    this.windowFromMs = nowMs;
    this.wanted = false;
    this.mostAtWork = 0;
  }

  private move(): void {
    const { lastMedianMs: medianMs, most } = this;
    this.leastMs = Math.min(this.leastMs * (1 + leastDrift), medianMs);
    const aim = Math.min(Math.max(aimMs, this.leastMs * aimFactor), maxAimMs);
    if (medianMs > aim) {
      this.limit = Math.max(Math.min(leastLimit, most), Math.floor(this.limit * Math.max(leastShrink, aim / medianMs)));
    } else if (this.wanted) {
      this.limit = Math.min(most, Math.ceil(this.limit * (1 + growth)));
    } else if (this.mostAtWork < this.limit / 2 && this.limit > firstLimit) {
      this.limit = Math.max(firstLimit, Math.floor(this.limit * (1 - unusedShrink)));
    }
  }
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] as number;
}
