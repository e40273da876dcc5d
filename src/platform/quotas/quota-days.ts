import { DateTime } from "luxon";

/** Days begin and end at whole quarters of an hour, in every time zone. */
const quarterMs = 900_000;

/**
 * The main name of a time zone; undefined: there is none. Other names are not for Postgres: it takes CET for an hour without summer time, IST
 * for Israel's, and +05:30 for one to the west.
 */
export function timeZoneOf(name: string): string | undefined {
  try {
    const { timeZone } = new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions();
    return /^[A-Z]/.test(timeZone) ? timeZone : undefined;
  } catch {
    return undefined;
  }
}

/** Calendar days in a time zone, which is where a quota's days begin and end. */
export class QuotaDays {
  private latest = { quarter: Number.NaN, name: "" };

  /** What `timeZoneOf` answers. */
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
