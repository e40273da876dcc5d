/** What one connection may have of the permits while others have calls, too. */
const mostShare = 0.5;
/** A connection that had a call within this time is one of the others. */
const rememberMs = 1_000;

/** Who has how many calls at work: one connection must not keep all others out, though a single one may have all. */
export class FairShare {
  private readonly counts = new Map<object, number>();
  private seen = new Set<object>();
  private seenBefore = new Set<object>();
  private sinceMs = 0;

  /** A call of it has arrived. */
  see(owner: object | null, nowMs: number): void {
    if (nowMs - this.sinceMs >= rememberMs) {
      this.seenBefore = this.seen;
      this.seen = new Set();
      this.sinceMs = nowMs;
    }
    if (owner) this.seen.add(owner);
  }

  /** Whether one of the `permits` may be its. null: it is nobody's that could have many. */
  allows(owner: object | null, permits: number): boolean {
    return !owner || (this.counts.get(owner) ?? 0) < Math.max(1, permits * mostShare) || this.isAlone(owner);
  }

  add(owner: object | null): void {
    if (owner) this.counts.set(owner, (this.counts.get(owner) ?? 0) + 1);
  }

  remove(owner: object | null): void {
    if (!owner) return;
    const left = (this.counts.get(owner) ?? 1) - 1;
    if (left > 0) this.counts.set(owner, left);
    else this.counts.delete(owner);
  }

  private isAlone(owner: object): boolean {
    const others = (owners: ReadonlySet<object>) => owners.size > (owners.has(owner) ? 1 : 0);
    return !others(this.seen) && !others(this.seenBefore);
  }
}
