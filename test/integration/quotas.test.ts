import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { readConfig } from "../../src/config.js";
import { newId } from "../../src/platform/new-id.js";
import { QuotaDays } from "../../src/platform/quotas/quota-days.js";
import type { IssueRequest, IssueResult } from "../../src/storage/ports/issues.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { until } from "../support/until.js";
import {
  type ClockedDatabase,
  type CouponFacts,
  insertCoupon,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";

const noon = new Date("2030-06-01T12:00:00.000Z");

let clocked: ClockedDatabase;
let store: PostgresIssueStore;
let group: string;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  store = new PostgresIssueStore(clocked.database, "Asia/Tokyo");
});
afterAll(() => clocked?.close());
beforeEach(async () => {
  group = `group-${randomUUID()}`;
  await clocked.setClock(noon);
});

async function couponOf(maxPerDay: number, facts: Partial<CouponFacts> = {}, ofGroup = group): Promise<string> {
  const id = await insertCoupon(clocked.sql, openCoupon(noon, { quantity: null, maxPerUser: 100, ...facts }));
  await clocked.sql`UPDATE coupons SET quota_group = ${ofGroup}, quota_per_day = ${maxPerDay} WHERE id = ${id}`;
  return id;
}

const requestOf = (couponId: string, userId = "u", requestId = ""): IssueRequest => ({
  couponId,
  userId,
  requestId,
  userCouponId: newId(Date.now()),
});
const outcomeOf = (result: IssueResult): string => (result.outcome === "REFUSED" ? result.reason : result.outcome);
const issue = async (...requests: IssueRequest[]) => (await store.issueBatch(requests)).map(outcomeOf);

/** What users were issued of the group today, by the counters and by the rows. */
async function expectIssued(expected: Record<string, number>): Promise<void> {
  const counted = await clocked.sql`SELECT user_id, issued_count FROM quota_days WHERE quota_group = ${group}`;
  const rows = await clocked.sql`
    SELECT u.user_id, count(*)::int AS issued_count FROM user_coupons u JOIN coupons c ON c.id = u.coupon_id
    WHERE c.quota_group = ${group} GROUP BY u.user_id`;
  for (const found of [counted, rows]) {
    const entries = found.filter((row) => row.issued_count > 0).map((row) => [row.user_id, row.issued_count]);
    expect(Object.fromEntries(entries)).toEqual(expected);
  }
}

describe("issue_user_coupons keeps quotas", () => {
  test("over the coupons of a group, in the order of the batch, for each user alone", async () => {
    const [a, b, c] = [await couponOf(2), await couponOf(2), await couponOf(2)];
    const free = await insertCoupon(clocked.sql, openCoupon(noon));
    expect(
      await issue(requestOf(c), requestOf(a, "v"), requestOf(a), requestOf(b), requestOf(free), requestOf(b, "v")),
    ).toEqual(["ISSUED", "ISSUED", "ISSUED", "QUOTA_REACHED", "ISSUED", "ISSUED"]);
    expect(await issue(requestOf(c, "v"), requestOf(c, "w"))).toEqual(["QUOTA_REACHED", "ISSUED"]);
    await expectIssued({ u: 2, v: 2, w: 1 });
  });

  test("a row behind one that is refused moves up, however many there are", async () => {
    const gone = { quantity: 1, issuedCount: 1 };
    const soldOut = await Promise.all(Array.from({ length: 6 }, () => couponOf(1, gone)));
    const [a, b] = [await couponOf(1), await couponOf(1)];
    const ids = [...soldOut, a, b];
    expect(await issue(...ids.map((id) => requestOf(id)))).toEqual([
      ...soldOut.map(() => "SOLD_OUT"),
      "ISSUED",
      "QUOTA_REACHED",
    ]);
    await expectIssued({ u: 1 });
  });

  test("each coupon's own limit counts", async () => {
    const [one, three] = [await couponOf(1), await couponOf(3)];
    expect(await issue(requestOf(three), requestOf(one))).toEqual(["ISSUED", "QUOTA_REACHED"]);
    expect(await issue(requestOf(three, "v"), requestOf(three, "w"), requestOf(one, "x"))).toEqual([
      "ISSUED",
      "ISSUED",
      "ISSUED",
    ]);
  });

  test("after ALREADY_ISSUED and before SOLD_OUT", async () => {
    const once = await couponOf(1, { maxPerUser: 1, quantity: 1 });
    const gone = await couponOf(1, { quantity: 1, issuedCount: 1 });
    expect(await issue(requestOf(once))).toEqual(["ISSUED"]);
    expect(await issue(requestOf(once))).toEqual(["ALREADY_ISSUED"]);
    expect(await issue(requestOf(gone))).toEqual(["QUOTA_REACHED"]);
    expect(await issue(requestOf(gone, "v"))).toEqual(["SOLD_OUT"]);
  });

  test("a repeated request is no second one, whether the batch or the call is repeated", async () => {
    const [a, b] = [await couponOf(1), await couponOf(1)];
    const first = requestOf(a, "u", randomUUID());
    expect(await issue(first)).toEqual(["ISSUED"]);
    expect((await store.issueBatch([first, requestOf(b)], true)).map(outcomeOf)).toEqual(["ISSUED", "QUOTA_REACHED"]);
    expect(await issue({ ...first, userCouponId: newId(Date.now()) })).toEqual(["REPLAYED"]);
    await expectIssued({ u: 1 });
  });

  test("until the day ends where the service is", async () => {
    const [a, b] = [await couponOf(1), await couponOf(1)];
    for (const [time, ofA, ofB] of [
      ["2030-06-01T14:59:59.998Z", "ISSUED", "QUOTA_REACHED"],
      ["2030-06-01T14:59:59.999Z", "QUOTA_REACHED", "QUOTA_REACHED"],
      // Midnight in Tokyo.
      ["2030-06-01T15:00:00.000Z", "ISSUED", "QUOTA_REACHED"],
      ["2030-06-02T14:59:59.999Z", "QUOTA_REACHED", "QUOTA_REACHED"],
    ] as const) {
      await clocked.setClock(new Date(time));
      await clocked.sql`UPDATE coupons SET expires_at = '2031-01-01Z' WHERE quota_group = ${group}`;
      expect([...(await issue(requestOf(a))), ...(await issue(requestOf(b)))], time).toEqual([ofA, ofB]);
    }
  });

  // To Postgres they are abbreviations: without summer time, or of another country.
  test.each(["CET", "EET", "MET", "WET", "IST", "PST"])(
    "on the days of the gate, where the service is in %s",
    async (name) => {
      const timeZone = readConfig({ QUOTA_TIME_ZONE: name }).QUOTA_TIME_ZONE;
      const id = await couponOf(1, { startsAt: new Date("2030-01-01"), expiresAt: new Date("2031-01-01") });
      const named = new Map<string, string>();
      for (const month of ["01", "07"]) {
        for (let hour = 0; hour < 24; hour++) {
          const at = new Date(`2030-${month}-10T${String(hour).padStart(2, "0")}:30:00Z`);
          await clocked.setClock(at);
          const userId = at.toISOString();
          await new PostgresIssueStore(clocked.database, timeZone).issueBatch([requestOf(id, userId)]);
          named.set(userId, new QuotaDays(timeZone).nameOf(at.getTime()));
        }
      }
      const counted = await clocked.sql`SELECT user_id, day::text FROM quota_days WHERE quota_group = ${group}`;
      expect(new Map(counted.map(({ user_id, day }) => [user_id, day]))).toEqual(named);
    },
  );

  test("two transactions of one user over two coupons at once: one is issued", async () => {
    for (let round = 0; round < 5; round++) {
      const ids = [await couponOf(1), await couponOf(1)];
      const user = `user-${round}`;
      let running: Promise<string[]>[] = [];
      await clocked.sql.begin(async (tx) => {
        await tx`SELECT FROM coupons WHERE id = ANY (${ids}::uuid[]) ORDER BY id FOR UPDATE`;
        running = ids.map((id) => issue(requestOf(id, user)));
        await until("both wait", async () => {
          const [row] = await clocked.sql`
            SELECT count(*)::int AS n FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%issue_user_coupons%'`;
          return row?.n === 2;
        });
      });
      expect((await Promise.all(running)).flat().sort()).toEqual(["ISSUED", "QUOTA_REACHED"]);
    }
    await expectIssued(Object.fromEntries(Array.from({ length: 5 }, (_, round) => [`user-${round}`, 1])));
  });

  test("many writers of many users, coupons and groups do not deadlock, and nobody gets too many", async () => {
    const groups = [group, `${group}-2`];
    const ids: string[] = [];
    for (let n = 0; n < 8; n++) ids.push(await couponOf(3, {}, groups[n % 2]));
    // A small fixed generator: the same batches in each run.
    let state = 7;
    const random = (below: number) => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      return (state >>> 8) % below;
    };
    const batchOf = () => {
      const requests = new Map<string, IssueRequest>();
      for (let n = 0; n < 40; n++) {
        const request = requestOf(ids[random(ids.length)] as string, `user-${random(12)}`);
        requests.set(`${request.couponId} ${request.userId}`, request);
      }
      return [...requests.values()];
    };
    const writers = Array.from({ length: 4 }, async () => {
      for (let n = 0; n < 12; n++) {
        for (const outcome of await issue(...batchOf())) expect(["ISSUED", "QUOTA_REACHED"]).toContain(outcome);
      }
    });
    await Promise.all(writers);
    const rows = await clocked.sql`
      SELECT c.quota_group, u.user_id, count(*)::int AS n FROM user_coupons u JOIN coupons c ON c.id = u.coupon_id
      WHERE c.quota_group = ANY (${groups}) GROUP BY 1, 2`;
    expect(rows).toHaveLength(24);
    expect(new Set(rows.map((row) => row.n))).toEqual(new Set([3]));
  });
});

describe("issue_user_coupons wants tickets", () => {
  const throttled = async (facts: Partial<CouponFacts> = {}) => {
    const id = await insertCoupon(clocked.sql, openCoupon(noon, facts));
    await clocked.sql`
      UPDATE coupons SET throttle_concurrent = 1, throttle_per_second = 1, throttle_wait_ms = 1 WHERE id = ${id}`;
    return id;
  };

  test("of a throttled coupon nothing is issued to who has had none, and nobody else is held up", async () => {
    const [id, free] = [await throttled(), await insertCoupon(clocked.sql, openCoupon(noon))];
    const requests = [
      requestOf(id),
      { ...requestOf(id, "v"), hasTicket: true },
      requestOf(free),
      { ...requestOf(free, "v"), hasTicket: true },
    ];
    expect(await issue(...requests)).toEqual(["TICKET_NEEDED", "ISSUED", "ISSUED", "ISSUED"]);
    const [row] = await clocked.sql`SELECT issued_count::int AS n FROM coupons WHERE id = ${id}`;
    expect(row?.n).toBe(1);
  });

  test("what is refused anyway, or repeated, needs none", async () => {
    const id = await throttled({ quantity: 1 });
    const first = { ...requestOf(id, "u", randomUUID()), hasTicket: true };
    expect(await issue(first)).toEqual(["ISSUED"]);
    expect(await issue({ ...first, hasTicket: false, userCouponId: newId(Date.now()) })).toEqual(["REPLAYED"]);
    expect(await issue(requestOf(id))).toEqual(["ALREADY_ISSUED"]);
    expect(await issue(requestOf(await throttled({ pausedAt: noon })))).toEqual(["COUPON_PAUSED"]);
  });

  test("one without a ticket takes no stock from one that has it", async () => {
    const id = await throttled({ quantity: 1 });
    expect(await issue(requestOf(id), { ...requestOf(id, "v"), hasTicket: true })).toEqual(["TICKET_NEEDED", "ISSUED"]);
  });
});

test("the groups of coupons, of many asked for in one moment", async () => {
  const [id, free] = [await couponOf(1), await insertCoupon(clocked.sql, openCoupon(noon))];
  const asked = [id, free, randomUUID(), id].map((one) => store.quotaGroupOf(one));
  expect(await Promise.all(asked)).toEqual([group, null, undefined, group]);
});

test.for([
  "UTC",
  "Asia/Tokyo",
  "Asia/Kathmandu",
  "America/Santiago",
  "America/Havana",
  "America/Nuuk",
  "Atlantic/Azores",
  "Africa/Cairo",
  "Etc/GMT-14",
])("days in %s are those of Postgres, also when clocks are changed at midnight", async (timeZone) => {
  const days = new QuotaDays(timeZone);
  const from = Date.parse("2026-01-01T00:00:00Z");
  // Each half hour of a year, and the last millisecond before it.
  const times = Array.from({ length: 365 * 48 }, (_, n) => [from + n * 1_800_000 - 1, from + n * 1_800_000]).flat();
  const rows = await clocked.sql`
      SELECT (at AT TIME ZONE ${timeZone})::date::text AS day, (at AT TIME ZONE ${timeZone} - at AT TIME ZONE 'UTC')::text AS ahead
      FROM unnest(${times.map(String)}::text[]) WITH ORDINALITY AS t (ms, i), to_timestamp(ms::float8 / 1000) AS at ORDER BY i`;
  // All of those within two days before clocks are changed, and of the others one day of 29, as a whole.
  const isNearChange = (index: number) => rows[index]?.ahead !== rows[Math.min(index + 192, times.length - 1)]?.ahead;
  const looked = [...times.entries()].filter(([index]) => index % (29 * 96) < 96 || isNearChange(index));
  const differing = looked.filter(([index, ms]) => days.nameOf(ms) !== rows[index]?.day);
  expect(differing.map(([, ms]) => new Date(ms).toISOString())).toEqual([]);
  for (const [, ms] of looked) {
    const leftMs = days.leftMs(ms);
    if (days.nameOf(ms + leftMs) === days.nameOf(ms) || days.nameOf(ms + leftMs - 1) !== days.nameOf(ms)) {
      expect.fail(`${new Date(ms).toISOString()} has ${leftMs} ms left`);
    }
  }
});
