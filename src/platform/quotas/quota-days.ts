import { DateTime } from "luxon";

/** Days begin and end at whole quarters of an hour, in every time zone. */
const quarterMs = 900_000;

/** Calendar days in a time zone, which is where a quota's days begin and end. */
export class QuotaDays {
  private latest = { quarter: Number.NaN, name: "" };

  /** A name of the IANA time zone database. */
  constructor(private readonly timeZone = "UTC") {}

  /** "2026-11-21". */
  nameOf(ms: number): string {
    const quarter = Math.floor(ms / quarterMs);
    if (quarter !== this.latest.quarter) this.latest = { quarter, name: this.at(ms).toISODate() ?? "" };
    return this.latest.name;
  }

  /** How long the day of this time goes on after it, at least 1 ms. */
  leftMs(ms: number): number {
    // From its beginning, for at this time of day the next one may have no hour, or have it twice. Not every day begins at midnight.
    return Math.max(1, this.at(ms).startOf("day").plus({ days: 1 }).startOf("day").toMillis() - ms);
  }

  private at(ms: number): DateTime {
    return DateTime.fromMillis(ms, { zone: this.timeZone });
  }
}
