import { DateTime } from "luxon";

interface Day {
  readonly name: string;
  readonly fromMs: number;
  readonly toMs: number;
}

/** Calendar days in a time zone, which is where a quota's days begin and end. */
export class QuotaDays {
  private latest: Day = { name: "", fromMs: 0, toMs: 0 };

  /** A name of the IANA time zone database. */
  constructor(private readonly timeZone: string) {}

  /** "2026-11-21". */
  nameOf(ms: number): string {
    return this.dayOf(ms).name;
  }

  /** How long the present day lasts, at least 1 ms. */
  leftMs(ms = Date.now()): number {
    return Math.max(1, this.dayOf(ms).toMs - ms);
  }

  private dayOf(ms: number): Day {
    const known = this.latest;
    if (ms >= known.fromMs && ms < known.toMs) return known;
    const from = DateTime.fromMillis(ms, { zone: this.timeZone }).startOf("day");
    this.latest = { name: from.toISODate() ?? "", fromMs: from.toMillis(), toMs: from.plus({ days: 1 }).toMillis() };
    return this.latest;
  }
}
