import { afterAll, beforeAll, expect, test } from "vitest";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";
import { lock, unlock, use, useOne } from "./checkout.js";
import { createSample, issue, issued } from "./samples.js";

/** Somebody holds the row of one coupon: an operator with a console, say, or a replica that stands still in the middle of an edit. */
// However busy the machine is, a reservation outlasts a test.
const { replica, sql } = await oneReplica(afterAll, { RESERVATION_MS: "60000" });
const { client } = replica;
let [held, free, another] = ["", "", ""];

beforeAll(async () => {
  const create = async () => (await createSample(client, { stackable: true })).id;
  [held, free, another] = [await create(), await create(), await create()];
  // So that the gate knows both.
  for (const id of [held, free]) await until("the gate knows it", async () => (await issued(client, id, "first")).id);
});

/** Holds the coupon while others are served, and lets it go: `waits` must end well, and not before. */
async function whileHeld(waits: () => Promise<unknown>, serve: () => Promise<unknown>): Promise<void> {
  let letGo = () => {};
  let hasEnded = false;
  let waiting: Promise<unknown> = Promise.resolve();
  await sql.begin(async (tx) => {
    await tx`SELECT FROM coupons WHERE id = ${held} FOR UPDATE`;
    const done = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    waiting = waits().finally(() => {
      hasEnded = true;
    });
    waiting.catch(() => {});
    await until("it waits", waitingSince);
    await serve();
    expect(hasEnded).toBe(false);
    letGo();
    await done;
  });
  await waiting;
}

/** When the statement began that waits for the lock; undefined: none does. */
async function waitingSince(): Promise<string | undefined> {
  const [row] = await sql<{ since: string }[]>`SELECT query_start::text AS since FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'`;
  return row?.since;
}

const each = async <T>(count: number, act: (at: number) => Promise<T>) => {
  const done: T[] = [];
  for (let at = 0; at < count; at++) done.push(await act(at));
  return done;
};

type Order = Parameters<typeof use>[1];

async function lockedOne(userId: string): Promise<Order> {
  const { id } = await issued(client, held, userId);
  const [{ lockVersion } = { lockVersion: 0n }] = await lock(client, { userId, coupons: [id] });
  return { userId, coupons: [{ id, lockVersion }] };
}
const unlockOne = ({ userId, coupons }: Order) => unlock(client, userId, coupons);

async function heldAndAnother(userId: string): Promise<Order> {
  return { userId, coupons: [(await issued(client, held, userId)).id, (await issued(client, another, userId)).id] };
}

test("others are issued", async () => {
  await whileHeld(
    () => issue(client, held, "waiting"),
    () => each(20, (at) => issue(client, free, `issue ${at}`)),
  );
});

test.each([
  ["locked", lock],
  ["used", useOne],
] as const)("others are %s", async (name, act) => {
  const orderOf = async (couponId: string, userId: string) => ({
    userId,
    coupons: [(await issued(client, couponId, userId)).id],
  });
  const order = await orderOf(held, name);
  const others = await each(20, (at) => orderOf(free, `${name} ${at}`));
  await whileHeld(
    () => act(client, order),
    () => each<unknown>(20, (at) => act(client, others[at] as typeof order)),
  );
});

test("uses of others are cancelled", async () => {
  const usedBy = async (couponId: string, userId: string) => {
    const { id } = await issued(client, couponId, userId);
    return { userId, usageId: (await useOne(client, { userId, coupons: [id] })).id };
  };
  const cancel = (one: { userId: string; usageId: string }) => client.call(UsageService.method.cancelUsage, one);
  const first = await usedBy(held, "cancelled");
  const others = await each(20, (at) => usedBy(free, `cancelled ${at}`));
  await whileHeld(
    () => cancel(first),
    () => each(20, (at) => cancel(others[at]!)),
  );
});

test.each([
  ["locks of it are to be ended", lockedOne, unlockOne],
  ["orders of several name it", heldAndAnother, (order: Order) => use(client, order)],
] as const)("others are issued while many %s", async (name, orderOf, act) => {
  const orders = await each(8, (at) => orderOf(`${name} ${at}`));
  await whileHeld(
    () => Promise.all(orders.map((order) => act(order))),
    () => each(10, (at) => issue(client, free, `beside ${name} ${at}`)),
  );
});

test("user coupons of others are deleted while many of it are to be", async () => {
  const heldBy = async (couponId: string, userId: string) => ({
    userId,
    userCouponId: (await issued(client, couponId, userId)).id,
  });
  const remove = (one: Awaited<ReturnType<typeof heldBy>>) =>
    client.call(UserCouponService.method.deleteUserCoupon, one);
  const mine = await each(4, (at) => heldBy(held, `deleted ${at}`));
  const others = await each(5, (at) => heldBy(free, `deleted ${at}`));
  await whileHeld(
    () => Promise.all(mine.map(remove)),
    () => each(5, (at) => remove(others[at]!)),
  );
});

test("an order of several waits on", async () => {
  const userId = "several";
  const coupons = [(await issued(client, held, userId)).id, (await issued(client, free, userId)).id];
  const tries = new Set<string>();
  await whileHeld(
    () => use(client, { userId, orderId: "one", coupons }),
    () =>
      until("it has asked again", async () => {
        const since = await waitingSince();
        return since !== undefined && tries.add(since).size > 1;
      }),
  );
});
