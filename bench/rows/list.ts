import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { ListUserCouponsRequestSchema, UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { expectOnly, type Row } from "../row.js";
import { type Api, encode, pathOf } from "../support/api.js";
import { createCoupon } from "./coupons.js";

/** The service remembers the last lists of about 400 users with so much; whoever asks again gets the same bytes again. */
const users = 200;
/** So many that each one's list is forgotten before it is asked for again. */
const manyUsers = 600;
/** Each of another coupon. It is also the page that a caller gets who asks for no size. */
const heldByEach = 50;
/** How many answers are looked at after a run. */
const sampled = 5;

const method = UserCouponService.method.listUserCoupons;

export const list = rowOf("list", `ListUserCoupons, ${heldByEach} with their coupons, asked for again`, users);
export const listCold = rowOf("listCold", "the same, of users whose last list is forgotten", manyUsers);

function rowOf(name: string, title: string, userCount: number): Row {
  // Issuing so many takes a while, and reading changes nothing: it is done once for all runs.
  let holders: Promise<string[]> | undefined;
  return {
    name,
    title,
    async prepare({ api, sql, maxCalls }) {
      holders ??= issueToAll(api, userCount);
      const userIds = await holders;
      return {
        method: pathOf(method),
        messages: requests(userIds, maxCalls),
        async verify(measured) {
          expectOnly(measured, "OK");
          for (const userId of userIds.slice(0, sampled)) await expectWhole(api, sql, userId);
        },
      };
    },
  };
}

async function issueToAll(api: Api, users: number): Promise<string[]> {
  const run = crypto.randomUUID().slice(0, 8);
  const holders = Array.from({ length: users }, (_, index) => `holder-${run}-${index}`);
  for (let count = 0; count < heldByEach; count += 1) {
    const couponId = await createCoupon(api, BigInt(users));
    const target = { case: "couponId" as const, value: couponId };
    await Promise.all(
      holders.map((userId) => api.call(IssuanceService.method.issueCoupon, { target, userId, requestId: "" })),
    );
  }
  return holders;
}

function* requests(holders: readonly string[], count: number): Generator<Uint8Array> {
  const messages = holders.map((userId) => encode(ListUserCouponsRequestSchema, { userId }));
  for (let index = 0; index < count; index += 1) yield messages[index % messages.length]!;
}

/** Every user coupon of the answer must have its coupon, as Postgres has it at this moment. */
async function expectWhole(api: Api, sql: Parameters<Row["prepare"]>[0]["sql"], userId: string): Promise<void> {
  const { userCoupons } = await api.call(method, { userId });
  const rows = await sql<{ id: string; name: string; issued: string }[]>`
    SELECT u.id, c.name, c.issued_count AS issued
    FROM user_coupons u JOIN coupons c ON c.id = u.coupon_id WHERE u.user_id = ${userId} ORDER BY u.id DESC`;
  const expected = rows.map(({ id, name, issued }) => `${id} ${name} ${issued}`);
  const found = userCoupons.map(({ id, coupon }) => `${id} ${coupon?.name} ${coupon?.issuedCount}`);
  const coupons = new Set(userCoupons.map(({ coupon }) => coupon?.id));
  if (coupons.size === heldByEach && found.join() === expected.join()) return;
  throw new Error(`The list of ${userId} has ${found.length} entries of ${coupons.size} coupons, or wrong ones.`);
}
