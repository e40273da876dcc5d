import { type Command, Option } from "commander";
import {
  CancelUsageResponseSchema,
  type CouponType,
  formatMoney,
  GetStatsResponseSchema,
  IssueCouponResponseSchema,
  LockCouponsResponseSchema,
  type Money,
  pages,
  UseCouponsResponseSchema,
  type UserCoupon,
  UserCouponSchema,
  UserCouponStatus,
} from "../../node.js";
import { UsageError } from "../failures.js";
import { bigOf, isUuid, labelOf, moneyOf, typeOf } from "../parse.js";
import { discountText, fields, table, timeText } from "../render.js";
import type { Act } from "../session.js";
import { limitOption, pageSize } from "./coupons.js";

interface OrderOptions {
  product?: string;
  order?: string;
  amount?: Money;
  lockVersion?: bigint;
  requestId?: string;
}

/** A user coupon by its id, or by its code. */
function choiceOf(text: string, lockVersion = 0n) {
  const target = isUuid(text)
    ? ({ case: "userCouponId", value: text } as const)
    : ({ case: "code", value: text } as const);
  return { target, lockVersion };
}

function targetOf({ coupon, code, type }: { coupon?: string; code?: string; type?: CouponType }) {
  const given = [
    ...(coupon === undefined ? [] : [{ case: "couponId", value: coupon } as const]),
    ...(code === undefined ? [] : [{ case: "code", value: code } as const]),
    ...(type === undefined ? [] : [{ case: "type", value: type } as const]),
  ];
  if (given.length !== 1) throw new UsageError("say one of --coupon, --code and --type");
  return given[0] as (typeof given)[number];
}

const requestId = () => new Option("--request-id <id>", "makes a repetition of this command do nothing twice");
const typeOption = () => new Option("--type <name>", "any of this type: free, standard or megadeal").argParser(typeOf);
const withOrder = (command: Command) =>
  command
    .argument("<user>", "who holds them")
    .argument("<user-coupons...>", "ids of user coupons, or codes")
    .addOption(new Option("--lock-version <n>", "of the lock that `lock` has answered").argParser(bigOf))
    .addOption(requestId());

export function addUseCommands(program: Command, act: Act): void {
  program
    .command("issue")
    .description("issues a coupon to a user")
    .argument("<user>", "who gets it")
    .option("--coupon <id>", "one of this coupon")
    .option("--code <code>", "this code")
    .addOption(typeOption())
    .addOption(new Option("--label <name=value>", "may be given several times").argParser(labelOf))
    .addOption(requestId())
    .action((userId: string, options: Parameters<typeof targetOf>[0] & IssueOptions, command: Command) =>
      act(async ({ client, output, call }) => {
        const request = { target: targetOf(options), userId, labels: options.label ?? {} };
        const answer = await client.issuance.issueCoupon({ ...request, requestId: options.requestId ?? "" }, call);
        output.one(IssueCouponResponseSchema, answer, () => userCouponFields(answer.userCoupon, answer.replayed));
      }, command),
    );

  withOrder(program.command("lock").description("holds user coupons for one checkout"))
    .option("--product <id>", "for which product")
    .option("--order <id>", "for which order")
    .addOption(new Option("--amount <money>", "of the order: 80.00USD").argParser(moneyOf))
    .action((userId: string, chosen: string[], options: OrderOptions, command: Command) =>
      act(async ({ client, output, call }) => {
        const answer = await client.usage.lockCoupons(orderOf(userId, chosen, options), call);
        output.one(LockCouponsResponseSchema, answer, () =>
          table(
            ["user coupon", "lock version", "until"],
            answer.locks.map((lock) => [lock.userCouponId, lock.lockVersion, timeText(lock.expireTime)]),
          ),
        );
      }, command),
    );

  withOrder(program.command("use").description("spends user coupons on an order"))
    .requiredOption("--product <id>", "for which product")
    .requiredOption("--order <id>", "for which order")
    .addOption(new Option("--amount <money>", "of the order: 80.00USD").argParser(moneyOf).makeOptionMandatory())
    .action((userId: string, chosen: string[], options: OrderOptions, command: Command) =>
      act(async ({ client, output, call }) => {
        const answer = await client.usage.useCoupons(orderOf(userId, chosen, options), call);
        output.one(UseCouponsResponseSchema, answer, () => {
          const rows = answer.usages.map((usage) => [
            ...[usage.id, usage.userCouponId, usage.couponName],
            usage.discountAmount && formatMoney(usage.discountAmount),
          ]);
          const totals = [
            ["off", answer.discountAmount && formatMoney(answer.discountAmount)] as const,
            ["to pay", answer.finalAmount && formatMoney(answer.finalAmount)] as const,
          ];
          return `${table(["usage", "user coupon", "coupon", "off"], rows)}\n${fields(totals)}`;
        });
      }, command),
    );

  program
    .command("cancel")
    .description("cancels a use")
    .argument("<user>", "whose use it is")
    .argument("[usage]", "its id")
    .option("--user-coupon <id>", "instead of the usage: the only use of this user coupon")
    .addOption(requestId())
    .action((userId: string, usageId: string | undefined, options: CancelOptions, command: Command) =>
      act(async ({ client, output, call }) => {
        if ((usageId === undefined) === (options.userCoupon === undefined)) {
          throw new UsageError("say which: the id of a usage, or --user-coupon");
        }
        const which = { usageId: usageId ?? "", userCouponId: options.userCoupon ?? "" };
        const answer = await client.usage.cancelUsage({ userId, ...which, requestId: options.requestId ?? "" }, call);
        const { usage } = answer;
        output.one(CancelUsageResponseSchema, answer, () =>
          fields([
            ["usage", usage?.id],
            ["user coupon", usage?.userCouponId],
            ["cancelled", timeText(usage?.cancelTime)],
          ]),
        );
      }, command),
    );

  program
    .command("user")
    .description("what a user holds, with its usages")
    .argument("<user>", "the user's id")
    .option("--expired", "what has expired, too")
    .addOption(limitOption())
    .action((userId: string, { expired = false, limit }: { expired?: boolean; limit: number }, command: Command) =>
      act(async ({ client, output, call }) => {
        const request = { userId, showExpired: expired, showUsages: true, pageSize: pageSize(limit) };
        const held = pages(client.userCoupons.listUserCoupons, request, call);
        const heads = ["user coupon", "coupon", "status", "off", "code", "uses", "of", "expires"];
        await output.many(UserCouponSchema, held, limit, heads, (one) => [
          ...[one.id, one.coupon?.name, UserCouponStatus[one.status]],
          ...[discountText(one.discount ?? one.coupon?.discount), one.code, one.useCount, one.maxUses],
          timeText(one.expireTime),
        ]);
      }, command),
    );

  program
    .command("stats")
    .description("what was created, issued and used")
    .option("--coupon <id>", "of one coupon")
    .addOption(typeOption())
    .action((options: { coupon?: string; type?: CouponType }, command: Command) =>
      act(async ({ client, output, call }) => {
        const ofAll = options.coupon === undefined && options.type === undefined;
        const scope = ofAll ? undefined : targetOf(options);
        if (scope?.case === "code") throw new UsageError("there are no counts of a code");
        const answer = await client.catalog.getStats(scope ? { scope } : {}, call);
        const { stats } = answer;
        output.one(GetStatsResponseSchema, answer, () =>
          fields([
            ...Object.entries(stats ?? {}).flatMap(([name, value]) =>
              typeof value === "bigint"
                ? [[name.replace(/Count$/, "").replace(/^(coupon|code)$/, "$1s"), value] as const]
                : [],
            ),
            ["as of", timeText(answer.readTime)],
          ]),
        );
      }, command),
    );
}

interface IssueOptions {
  label?: Record<string, string>;
  requestId?: string;
}

interface CancelOptions {
  userCoupon?: string;
  requestId?: string;
}

function orderOf(userId: string, chosen: readonly string[], options: OrderOptions) {
  const { product = "", order = "", amount, lockVersion, requestId = "" } = options;
  const coupons = chosen.map((one) => choiceOf(one, lockVersion));
  return { userId, coupons, productId: product, orderId: order, requestId, ...(amount && { orderAmount: amount }) };
}

function userCouponFields(one: UserCoupon | undefined, replayed: boolean): string {
  if (!one) return "";
  return fields([
    ["user coupon", one.id],
    ["coupon", one.couponId],
    ["user", one.userId],
    ["status", UserCouponStatus[one.status]],
    ["code", one.code],
    ["issued", timeText(one.issueTime)],
    ["expires", timeText(one.expireTime)],
    ["replayed", replayed ? "yes: an earlier call had issued it" : undefined],
  ]);
}
