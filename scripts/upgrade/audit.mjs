import { setTimeout as sleep } from "node:timers/promises";
import { unpackHoldings } from "../../dist/src/reservation/packed-holdings.js";

const settleMs = 20_000;
const pauseMs = 200;

/** Compares what callers were told with what is in Postgres and in Redis. Answers what is wrong, in words. */
export async function audit({ sql, redis, keyPrefix, load, coupons }) {
  const wrong = [];
  const expectSame = (what, found, wanted) => {
    if (String(found) !== String(wanted)) wrong.push(`${what}: ${found}, and ${wanted} were expected`);
  };
  for (const [name, { id, quantity }] of Object.entries(coupons)) {
    const told = load.issued.filter(({ couponId }) => couponId === id);
    const [row] = await sql`
      SELECT c.issued_count, c.issued_total, c.used_count, c.place_count,
        (SELECT count(*) FROM user_coupons u WHERE u.coupon_id = c.id) AS rows,
        (SELECT count(DISTINCT user_id) FROM user_coupons u WHERE u.coupon_id = c.id) AS users,
        (SELECT count(DISTINCT user_coupon_id) FROM events e WHERE e.coupon_id = c.id AND e.kind = 'USER_COUPON_ISSUED') AS events,
        (SELECT count(*) FROM usages s WHERE s.coupon_id = c.id AND s.cancelled_at IS NULL) AS usages,
        (SELECT count(DISTINCT user_coupon_id) FROM usages s WHERE s.coupon_id = c.id) AS places
      FROM coupons c WHERE c.id = ${id}`;
    expectSame(`${name}: issued_count`, row.issued_count, row.rows);
    expectSame(`${name}: issued_total`, row.issued_total, row.rows);
    expectSame(`${name}: users`, row.users, row.rows);
    expectSame(`${name}: events`, row.events, row.rows);
    expectSame(`${name}: used_count`, row.used_count, row.usages);
    expectSame(`${name}: place_count`, row.place_count, row.places);
    // Every call was answered, so callers know of all.
    expectSame(`${name}: rows`, row.rows, told.length);
    const [missing] = await sql`
      SELECT count(*) AS n
      FROM unnest(${told.map((one) => one.userCouponId)}::uuid[], ${told.map((one) => one.userId)}::text[]) AS t (id, user_id)
      WHERE NOT EXISTS (SELECT FROM user_coupons u WHERE u.id = t.id AND u.user_id = t.user_id AND u.coupon_id = ${id})`;
    expectSame(`${name}: acknowledged and missing`, missing.n, 0);
    await expectEvenGate({
      name,
      id,
      redis,
      keyPrefix,
      stock: quantity - Number(row.rows),
      users: row.users,
      expectSame,
    });
  }

  const used = load.used.map(({ usageId }) => usageId);
  const [usages] = await sql`
    SELECT count(*) AS rows, count(*) FILTER (WHERE id = ANY (${used}::uuid[])) AS told,
      count(*) FILTER (WHERE cancelled_at IS NOT NULL) AS cancelled,
      count(*) FILTER (WHERE cancelled_at IS NOT NULL AND id = ANY (${load.cancelled}::uuid[])) AS told_cancelled
    FROM usages`;
  expectSame("usages", usages.rows, used.length);
  expectSame("usages that callers know", usages.told, used.length);
  expectSame("cancelled usages", usages.cancelled, load.cancelled.length);
  expectSame("cancelled usages that callers know", usages.told_cancelled, load.cancelled.length);
  // Each may be used once, and keeps its place when its usage is cancelled.
  const [uneven] = await sql`
    SELECT count(*) AS n FROM user_coupons u CROSS JOIN LATERAL (
      SELECT count(*) FILTER (WHERE s.cancelled_at IS NULL) AS live, least(count(*), 1) AS places
      FROM usages s WHERE s.user_coupon_id = u.id) s
    WHERE u.use_count <> s.live OR u.place_count <> s.places`;
  expectSame("user coupons whose counters are not those of their usages", uneven.n, 0);
  return wrong;
}

/** The gate's equation: stock = quantity - issued - pending. What is pending is swept, if nobody settles it. */
async function expectEvenGate({ name, id, redis, keyPrefix, stock, users, expectSame }) {
  const key = (what) => `${keyPrefix}:{${id}}:${what}`;
  const look = async () => ({
    pending: await redis.zcard(key("pending")),
    stock: await redis.hget(key("coupon"), "stock"),
    holders: holdersIn(await redis.callBuffer("HGETALL", key("holders"))),
  });
  const untilMs = Date.now() + settleMs;
  let seen = await look();
  while (seen.pending > 0 && Date.now() < untilMs) {
    await sleep(pauseMs);
    seen = await look();
  }
  expectSame(`${name}: pending in Redis`, seen.pending, 0);
  expectSame(`${name}: stock in Redis`, seen.stock, stock);
  expectSame(`${name}: holders in Redis`, seen.holders, users);
}

/** Of either form: users as fields, or packed in buckets, whose names are a control character and a number of three bytes. */
function holdersIn(namesAndValues) {
  const users = new Set();
  for (let at = 0; at < namesAndValues.length; at += 2) {
    const [name, value] = namesAndValues.slice(at, at + 2);
    if (name[0] === 1) for (const { userId } of unpackHoldings(pageOf(name, value))) userId && users.add(userId);
    else if (name.length > 0) users.add(name.toString());
  }
  return users.size;
}

/** Of one bucket: its number and its length, four bytes each, and what it holds. */
function pageOf(name, packed) {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(name.readUIntBE(1, 3));
  head.writeUInt32BE(packed.length, 4);
  return Buffer.concat([head, packed]);
}
