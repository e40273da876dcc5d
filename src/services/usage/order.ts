import type { Money } from "../../../gen/coupon/v1/coupon_pb.js";
import type { CouponChoice } from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { checkCurrency } from "../../domain/coupon.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import type { Choice, Order } from "../../domain/usage.js";
import type { DeadlineMs } from "../../storage/ports/page.js";
import type { UsageStore } from "../../storage/ports/usages.js";
import { moneyOf } from "../message.js";
import { type OneCodeMessage, wrongWithOneCode } from "./one-code.js";

/** Beyond every version that will ever be given, and still a number that the store can read. */
const greatestVersion = BigInt(Number.MAX_SAFE_INTEGER);
/** The id of no user coupon: what a code names that the user does not hold. */
export const nobody = "00000000-0000-0000-0000-000000000000";

interface ChoicesMessage {
  readonly userId: string;
  readonly coupons: readonly CouponChoice[];
  /** Absent, or "": the caller gave none. */
  readonly requestId?: string;
}

interface OrderMessage extends ChoicesMessage {
  readonly productId: string;
  readonly orderId: string;
  readonly orderAmount?: Money | undefined;
}

type CodeStore = Pick<UsageStore, "findByCodes">;

/** What quote, lock and use have in common. */
export async function orderOf(
  message: OrderMessage,
  store: CodeStore,
  { deadlineMs, trace }: Pick<CallContext, "deadlineMs" | "trace">,
): Promise<Order | Refusal> {
  const { userId, productId, orderId, orderAmount } = message;
  const choices = await choicesOf(message, store, deadlineMs, wrongAmount(message));
  if (choices instanceof Refusal) return choices;
  return { userId, choices, productId, orderId, amount: orderAmount ? moneyOf(orderAmount) : null, trace };
}

function wrongAmount({ orderAmount }: Pick<OrderMessage, "orderAmount">): FieldViolation[] {
  const unknown = orderAmount && checkCurrency(orderAmount.currencyCode);
  return unknown ? [{ field: "order_amount.currency_code", description: unknown }] : [];
}

/** What is wrong with an order, without a look at what it names. */
export const wrongInOrder = wrongWithOneCode((message: OneCodeMessage & OrderMessage) => [
  ...wrongInChoices(message),
  ...wrongAmount(message),
]);

/** What is named twice. */
export function wrongInChoices({ coupons }: Pick<ChoicesMessage, "coupons">): FieldViolation[] {
  const seen = new Set<string>();
  return coupons.flatMap(({ target }, index) => {
    if (target.case === undefined) return [];
    const isCode = target.case === "code";
    const name = isCode ? `code ${target.value}` : target.value.toLowerCase();
    const field = `coupons[${index}].${isCode ? "code" : "user_coupon_id"}`;
    if (seen.has(name)) return [{ field, description: "is named twice" }];
    seen.add(name);
    return [];
  });
}

/** What the caller named, codes looked up. No user coupon may be named twice. `violations`: what else is wrong. */
export async function choicesOf(
  { userId, coupons, requestId = "" }: ChoicesMessage,
  store: CodeStore,
  deadlineMs: DeadlineMs,
  violations: readonly FieldViolation[] = [],
): Promise<Choice[] | Refusal> {
  const named = coupons.map(({ target, lockVersion }): Choice => {
    const version = Number(lockVersion > greatestVersion ? greatestVersion : lockVersion);
    const value = target.value ?? "";
    return target.case === "code"
      ? { userCouponId: nobody, lockVersion: version, code: value }
      : { userCouponId: value.toLowerCase(), lockVersion: version };
  });
  const twice = wrongInChoices({ coupons });
  if (violations.length + twice.length > 0) return invalid(...violations, ...twice);

  const coded = named.filter(hasCode);
  if (coded.length === 0) return named;
  const found = await store.findByCodes(userId, coded, requestId, deadlineMs);
  const taken = new Set(named.map(({ userCouponId }) => userCouponId));
  const again: FieldViolation[] = [];
  const choices = named.map((choice, index) => {
    if (!hasCode(choice)) return choice;
    const held = found[coded.indexOf(choice)] ?? [];
    const userCouponId = held.find((id) => !taken.has(id)) ?? nobody;
    // Two ways to write one code, or a code and the id of what it names, are two user coupons, if the user holds two.
    if (userCouponId !== nobody) taken.add(userCouponId);
    else if (held.length > 0) {
      again.push({ field: `coupons[${index}].code`, description: "names a user coupon that another item names, too" });
    }
    return { ...choice, userCouponId };
  });
  return again.length > 0 ? invalid(...again) : choices;
}

function hasCode(choice: Choice): choice is Choice & { readonly code: string } {
  return choice.code !== undefined;
}
