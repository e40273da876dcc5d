import type { EventPosition } from "../../../domain/event.js";
import { noDeadlineMs } from "../../ports/page.js";
import type { RelayLag, RelayLease, RelayStore } from "../../ports/relay.js";
import type { Connection, Database } from "../database.js";

interface LeaseRow {
  readonly fence: string;
  readonly placeSeq: string | null;
  readonly placeXid: string | null;
}

export class PostgresRelayStore implements RelayStore {
  constructor(private readonly database: Database) {}

  async take(name: string, holder: string, leaseMs: number): Promise<RelayLease | null> {
    // Whether its time is over is asked again after the row's lock was waited for.
    const [row] = await this.run(
      ({ sql }) => sql<LeaseRow[]>`
        INSERT INTO relay_state AS r (name, fence, holder, held_until)
        VALUES (${name}, 1, ${holder}, coupon_clock() + ${leaseMs}::int * interval '1 millisecond')
        ON CONFLICT (name) DO UPDATE SET fence = r.fence + 1, holder = excluded.holder,
          held_until = coupon_clock() + ${leaseMs}::int * interval '1 millisecond'
        WHERE r.held_until IS NULL OR r.held_until <= coupon_clock()
        RETURNING r.fence, r.place_seq, r.place_xid`,
    );
    if (!row) return null;
    const { fence, placeSeq, placeXid } = row;
    return { fence: Number(fence), place: placeSeq === null ? null : { seq: Number(placeSeq), xid: placeXid ?? "" } };
  }

  async renew(name: string, fence: number, place: EventPosition | null, leaseMs: number): Promise<boolean> {
    const { count } = await this.run(
      ({ sql }) => sql`
        UPDATE relay_state SET held_until = coupon_clock() + ${leaseMs}::int * interval '1 millisecond',
          place_seq = coalesce(${place?.seq ?? null}::bigint, place_seq), place_xid = coalesce(${place?.xid ?? null}::text, place_xid)
        WHERE name = ${name} AND fence = ${fence}::bigint`,
    );
    return count === 1;
  }

  async giveUp(name: string, fence: number): Promise<void> {
    await this.run(
      ({ sql }) => sql`UPDATE relay_state SET held_until = NULL WHERE name = ${name} AND fence = ${fence}::bigint`,
    );
  }

  async lag(name: string): Promise<RelayLag | null> {
    const [row] = await this.run(
      ({ sql }) => sql<{ events: string; ms: string }[]>`
        SELECT greatest(0, coalesce((SELECT seq FROM events ORDER BY seq DESC LIMIT 1), 0) - r.place_seq) AS events,
          coalesce((
            SELECT greatest(0, extract(epoch FROM coupon_clock() - e.happened_at) * 1000) FROM events e
            WHERE e.seq > r.place_seq ORDER BY e.seq LIMIT 1
          ), 0) AS ms
        FROM relay_state r WHERE r.name = ${name} AND r.place_seq IS NOT NULL`,
    );
    return row ? { events: Number(row.events), ms: Number(row.ms) } : null;
  }

  private run<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    return this.database.background.run(noDeadlineMs, work);
  }
}
