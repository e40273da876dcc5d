/** What people write on a command line. Each throws an error that says what it takes; commander names the option. */
import { create } from "@bufbuild/protobuf";
import { InvalidArgumentError } from "commander";
import { CouponType, type Discount, DiscountSchema, type Money, money, timestampFromDate } from "../node.js";

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export function durationOf(text: string): number {
  const [, count, unit] = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text) ?? [];
  if (!count || !unit) throw new InvalidArgumentError("Write a number and ms, s, m, h or d: 90s, 12h, 30d.");
  return Number(count) * (unitMs[unit] as number);
}

/** A time, or how long from now. */
export function timeOf(text: string) {
  if (/^\d+(ms|s|m|h|d)$/.test(text)) return timestampFromDate(new Date(Date.now() + durationOf(text)));
  const zoned = /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/.test(text);
  const ms = zoned ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms))
    throw new InvalidArgumentError("Write 30d, 12h, or a time with its zone: 2035-01-31T00:00:00Z.");
  return timestampFromDate(new Date(ms));
}

export function wholeOf(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("Write a whole number.");
  return Number(text);
}

export function bigOf(text: string): bigint {
  if (!/^\d{1,18}$/.test(text)) throw new InvalidArgumentError("Write a whole number.");
  return BigInt(text);
}

export function moneyOf(text: string): Money {
  const [, amount, currency] = /^([\d.]+) ?([A-Z]{3})$/.exec(text) ?? [];
  if (!amount || !currency) throw new InvalidArgumentError("Write an amount and its currency: 12.50USD.");
  try {
    return money(amount, currency);
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message}.`);
  }
}

/** `10%`, `7.25%` or `12.50USD`. */
export function discountOf(text: string): Discount {
  const [, percent] = /^(\d{1,3}(?:\.\d{1,2})?)%$/.exec(text) ?? [];
  return create(DiscountSchema, {
    kind: percent
      ? { case: "percentageBasisPoints", value: Math.round(Number(percent) * 100) }
      : { case: "fixedAmount", value: moneyOf(text) },
  });
}

export function typeOf(text: string): CouponType {
  const type = CouponType[text.toUpperCase() as keyof typeof CouponType];
  if (!type) throw new InvalidArgumentError("Write free, standard or megadeal.");
  return type;
}

/** Collects `--label name=value`, which may be given several times. */
export function labelOf(text: string, before: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Write name=value.");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

export function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);
}
