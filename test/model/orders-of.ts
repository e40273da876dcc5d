import type { Call, Choice, Order } from "./call.js";
import { amounts, type LockChoice, labels, type OrderCommand } from "./commands.js";
import { type Life, spelled } from "./definitions.js";
import type { Model } from "./model.js";
import type { UserCoupon } from "./state.js";

/** The orders that commands stand for. */

/** An order that only uses name. */
const namelessOrder = 4;
/** From this one on an amount may differ from that of the order so far. */
const otherAmount = 3;

export function orderCall(command: OrderCommand, model: Model, life: Life): Call | null {
  const chosen = choose(model, command.picks);
  if (chosen.length === 0) return null;
  const named = orderOf(model, chosen, command.lock, command.amount, command.order, command.spelling, command.product);
  // A quote and a lock need not name one.
  const isNameless = command.kind !== "use" && command.order === namelessOrder;
  const order = isNameless ? { ...named, orderId: "" } : named;
  return command.kind === "quote"
    ? { method: "quote", order }
    : {
        method: command.kind,
        order: command.kind === "use" ? { ...order, labels: labels[command.labels] ?? "" } : order,
        requestId: life.requestId(command.request),
      };
}

export function orderOf(
  model: Model,
  chosen: readonly UserCoupon[],
  held: LockChoice,
  amountOf: number,
  order: number,
  spelling: number | null = null,
  product = 0,
): Order {
  const userId = chosen[0]?.userId ?? "";
  const orderId = `order-${order}`;
  const standing = model.state.usages.find(
    (one) => one.userId === userId && one.orderId === orderId && one.cancelledAt === null,
  );
  const amount = amounts[amountOf] ?? null;
  return {
    userId,
    choices: choicesOf(model, chosen, held, spelling),
    ...{ productId: `product-${product}`, orderId },
    // Mostly what earlier calls were told of it.
    amount: standing && amountOf < otherAmount ? standing.amount : amount,
  };
}

export function choicesOf(
  model: Model,
  chosen: readonly UserCoupon[],
  held: LockChoice,
  spelling: number | null,
): Choice[] {
  return chosen.map((one) => {
    const own = model.isLocked(one) ? one.lock.version : 0;
    // The one before, or one that there has not been yet.
    const stale = one.lock.version > 1 ? one.lock.version - 1 : one.lock.version + 1;
    const lockVersion = { own, none: 0, stale }[held];
    if (one.code === null || spelling === null) return { id: one.id, lockVersion };
    return { id: "", code: spelled(one.code, spelling), lockVersion };
  });
}

/** User coupons of one user, mostly such as can be used. Now and then another user's is among them. */
export function choose(model: Model, picks: readonly number[]): UserCoupon[] {
  const { userCoupons } = model.state;
  const usable = userCoupons.filter((one) => one.deletedAt === null && ["READY", "LOCKED"].includes(model.status(one)));
  const [first = 0, ...others] = picks;
  const from = first % 3 > 0 && usable.length > 0 ? usable : userCoupons;
  const one = pick(from, first);
  if (!one) return [];
  const chosen = [one];
  for (const other of others) {
    const same = from.filter(({ userId, id }) => userId === one.userId && !chosen.some((taken) => taken.id === id));
    const next = pick(other === 0 ? userCoupons : same, other);
    if (next && !chosen.includes(next)) chosen.push(next);
  }
  return chosen;
}

/** -1: the last one. */
export function pick<T>(all: readonly T[], index: number): T | undefined {
  return index < 0 ? all.at(index) : all[index % Math.max(1, all.length)];
}
