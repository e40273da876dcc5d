import { readFileSync } from "node:fs";
import { create, fromJsonString } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import {
  CodeBookSchema,
  type Coupon,
  CouponSchema,
  type CouponType,
  type Discount,
  DiscountKind,
  durationFromMs,
  type Money,
  pages,
  type timestampFromDate,
} from "../../node.js";
import { UsageError } from "../failures.js";
import { bigOf, discountOf, durationOf, labelOf, moneyOf, timeOf, typeOf, wholeOf } from "../parse.js";
import { couponCells, couponFields, couponHeads } from "../render.js";
import type { Act, Session } from "../session.js";

interface CreateOptions {
  name?: string;
  off?: Discount;
  ends?: ReturnType<typeof timestampFromDate>;
  starts?: ReturnType<typeof timestampFromDate>;
  quantity?: bigint;
  minimum?: Money;
  maximum?: Money;
  maxPerUser?: number;
  maxUses?: number;
  usageCap?: bigint;
  validFor?: number;
  claimWindow?: number;
  type?: CouponType;
  category?: string;
  description?: string;
  stackable?: boolean;
  codeBook?: boolean;
  label?: Record<string, string>;
  file?: string;
  requestId?: string;
}

const requestId = () => new Option("--request-id <id>", "makes a repetition of this command do nothing twice");
export const limitOption = (most = 50) =>
  new Option("--limit <n>", "how many at most").argParser(wholeOf).default(most);

/** What all pages of a list may have at most; the service takes no larger ones. */
export function pageSize(limit: number, max = 1_000): number {
  return Math.max(1, Math.min(limit + 1, max));
}

export function addCouponsCommands(program: Command, act: Act): void {
  const coupons = program.command("coupons").description("what merchants define");

  coupons
    .command("create")
    .description("creates a coupon")
    .option("--name <text>", "its name")
    .addOption(new Option("--off <discount>", "10%, or 12.50USD").argParser(discountOf))
    .addOption(new Option("--ends <when>", "in 30d, or 2035-01-31T00:00:00Z").argParser(timeOf))
    .addOption(new Option("--starts <when>", "default: now").argParser(timeOf))
    .addOption(new Option("--quantity <n>", "default: unlimited").argParser(bigOf))
    .addOption(new Option("--minimum <money>", "the order amount from which it may be used").argParser(moneyOf))
    .addOption(new Option("--maximum <money>", "the most that a percentage takes off").argParser(moneyOf))
    .addOption(new Option("--max-per-user <n>", "default: 1").argParser(wholeOf))
    .addOption(new Option("--max-uses <n>", "of each that was issued; default: 1").argParser(wholeOf))
    .addOption(new Option("--usage-cap <n>", "uses over all users").argParser(bigOf))
    .addOption(new Option("--valid-for <time>", "after it was issued").argParser(durationOf))
    .addOption(new Option("--claim-window <time>", "unused for longer, it goes to somebody else").argParser(durationOf))
    .addOption(new Option("--type <name>", "free, standard or megadeal").argParser(typeOf))
    .option("--category <text>", "the merchant's own grouping")
    .option("--description <text>", "for people")
    .option("--stackable", "may be combined with others in one order")
    .option("--code-book", "its stock is its codes")
    .addOption(new Option("--label <name=value>", "may be given several times").argParser(labelOf))
    .option("--file <json>", "a coupon as JSON, for what has no option; options go before it")
    .addOption(requestId())
    .action((options: CreateOptions, command: Command) =>
      act(async (session) => {
        const answer = await session.client.catalog.createCoupon(
          { coupon: couponOf(options), requestId: options.requestId ?? "" },
          session.call,
        );
        show(session, answer.coupon);
      }, command),
    );

  coupons
    .command("list")
    .description("lists coupons, the newest first")
    .option("--deleted", "deleted ones, too")
    .addOption(limitOption())
    .action(({ deleted = false, limit }: { deleted?: boolean; limit: number }, command: Command) =>
      act(async ({ client, output, call }) => {
        const request = { showDeleted: deleted, pageSize: pageSize(limit) };
        const found = pages(client.catalog.listCoupons, request, call);
        await output.many(CouponSchema, found, limit, couponHeads, couponCells);
      }, command),
    );

  coupons
    .command("search")
    .description("finds coupons by words, best first")
    .argument("[words...]", "all of them must be found")
    .option("--category <text>", "the whole category")
    .addOption(new Option("--type <name>", "free, standard or megadeal").argParser(typeOf))
    .addOption(new Option("--kind <kind>", "of the discount").choices(["percentage", "fixed"]))
    .option("--ended", "those that have ended, too")
    .addOption(limitOption(20))
    .action((words: string[], options: SearchOptions, command: Command) =>
      act(async ({ client, output, call }) => {
        const request = {
          query: words.join(" "),
          category: options.category ?? "",
          showEnded: options.ended ?? false,
          ...(options.type && { type: options.type }),
          ...(options.kind && { discountKind: discountKinds[options.kind] }),
          pageSize: pageSize(options.limit, 100),
        };
        const found = pages(client.catalog.searchCoupons, request, call);
        await output.many(CouponSchema, found, options.limit, couponHeads, couponCells);
      }, command),
    );

  const byId = (name: string, description: string) =>
    coupons.command(name).description(description).argument("<coupon>", "its id");
  byId("get", "shows a coupon, a deleted one, too").action((couponId: string, _: object, command: Command) =>
    act(async (session) => {
      show(session, (await session.client.catalog.getCoupon({ couponId }, session.call)).coupon);
    }, command),
  );
  byId("pause", "stops issuing").action((couponId: string, _: object, command: Command) =>
    act(async (session) => {
      show(session, (await session.client.catalog.pauseCoupon({ couponId }, session.call)).coupon);
    }, command),
  );
  byId("resume", "goes on issuing").action((couponId: string, _: object, command: Command) =>
    act(async (session) => {
      show(session, (await session.client.catalog.resumeCoupon({ couponId }, session.call)).coupon);
    }, command),
  );
  byId("delete", "ends it: nothing more is issued")
    .option("--revoke-issued", "what was issued cannot be used any more, either")
    .action((couponId: string, { revokeIssued = false }: { revokeIssued?: boolean }, command: Command) =>
      act(async (session) => {
        show(session, (await session.client.catalog.deleteCoupon({ couponId, revokeIssued }, session.call)).coupon);
      }, command),
    );
}

interface SearchOptions {
  category?: string;
  type?: CouponType;
  kind?: "percentage" | "fixed";
  ended?: boolean;
  limit: number;
}

const discountKinds = { percentage: DiscountKind.PERCENTAGE, fixed: DiscountKind.FIXED_AMOUNT } as const;

function show({ output }: Session, coupon: Coupon | undefined): void {
  if (coupon) output.one(CouponSchema, coupon, () => couponFields(coupon));
}

function couponOf(options: CreateOptions): Coupon {
  const coupon = options.file === undefined ? create(CouponSchema) : couponFrom(options.file);
  const { off, minimum, maximum } = options;
  if (off) coupon.discount = off;
  if (coupon.discount && minimum) coupon.discount.minimumOrderAmount = minimum;
  if (coupon.discount && maximum) coupon.discount.maximumAmount = maximum;
  const given = {
    ...{ name: options.name, startTime: options.starts, expireTime: options.ends, quantity: options.quantity },
    ...{ maxPerUser: options.maxPerUser, maxUses: options.maxUses, usageCap: options.usageCap, type: options.type },
    ...{ category: options.category, description: options.description, stackable: options.stackable },
    ...{ labels: options.label, codeBook: options.codeBook ? create(CodeBookSchema) : undefined },
    validityAfterIssue: options.validFor === undefined ? undefined : durationFromMs(options.validFor),
    claimWindow: options.claimWindow === undefined ? undefined : durationFromMs(options.claimWindow),
  };
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return { ...coupon, ...set };
}

function couponFrom(file: string): Coupon {
  try {
    return fromJsonString(CouponSchema, readFileSync(file, "utf8"));
  } catch (error) {
    throw new UsageError(`${file}: ${(error as Error).message}`);
  }
}
