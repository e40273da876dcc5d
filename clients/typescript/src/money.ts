import { create } from "@bufbuild/protobuf";
import { type Money, MoneySchema } from "./contract.js";

/** How many digits of a currency are behind the point: 2 of USD, 0 of JPY, 3 of KWD. */
function digitsOf(currencyCode: string): number {
  const { maximumFractionDigits } = new Intl.NumberFormat("en", {
    style: "currency",
    currency: currencyCode,
  }).resolvedOptions();
  return maximumFractionDigits ?? 2;
}

/** `money("12.50", "USD")`. A text, because a number cannot have every amount. */
export function money(amount: string, currencyCode: string): Money {
  if (!/^[A-Z]{3}$/.test(currencyCode)) throw new RangeError(`${currencyCode}: a currency has three capital letters`);
  const digits = digitsOf(currencyCode);
  const [, whole, part = ""] = /^(\d{1,16})(?:\.(\d+))?$/.exec(amount) ?? [];
  if (whole === undefined || part.length > digits) {
    throw new RangeError(`${amount}: an amount in ${currencyCode} has at most ${digits} digits behind the point`);
  }
  return create(MoneySchema, { currencyCode, minorUnits: BigInt(whole + part.padEnd(digits, "0")) });
}

/** In major units, with the currency: `12.50 USD`. */
export function formatMoney({ minorUnits, currencyCode }: Pick<Money, "minorUnits" | "currencyCode">): string {
  const digits = /^[A-Z]{3}$/.test(currencyCode) ? digitsOf(currencyCode) : 0;
  const text = minorUnits.toString().padStart(digits + 1, "0");
  const whole = text.slice(0, text.length - digits);
  return `${whole}${digits > 0 ? `.${text.slice(-digits)}` : ""} ${currencyCode}`;
}
