import type { Settlement } from "../port.js";

/** Words that are known before one that comes earlier. What would be one more is forgotten, and the copy is loaded anew for it. */
const maxAhead = 10_000;

/** Of which numbers of what was given back a copy has heard. */
export class Heard {
  private readonly ahead = new Set<number>();

  /** `to`: of all up to this number. */
  constructor(public to: number) {}

  hear(settlement: Settlement): void {
    if (settlement.outcome !== "FREE" && settlement.outcome !== "RETURN") return;
    const { givenBackNo = 0 } = settlement;
    if (givenBackNo <= this.to || (givenBackNo > this.to + 1 && this.ahead.size >= maxAhead)) return;
    this.ahead.add(givenBackNo);
    while (this.ahead.delete(this.to + 1)) this.to += 1;
  }
}
