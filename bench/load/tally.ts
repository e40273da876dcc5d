/** Reasons come from the other side of the network: beyond this many different ones they are counted together. */
const maxReasons = 64;

/** Counts calls by outcome: "OK", "REPLAYED", or the reason of the refusal. */
export class Tally {
  readonly #counts = new Map<string, number>();

  add(outcome: string): void {
    const known = this.#counts.has(outcome) || this.#counts.size < maxReasons;
    const key = known ? outcome : "OTHER";
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  toRecord(): Record<string, number> {
    return Object.fromEntries(this.#counts);
  }
}
