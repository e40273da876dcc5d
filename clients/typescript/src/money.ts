import { create } from "@bufbuild/protobuf";
import { type Money, MoneySchema } from "./contract.js";

/**
 * By ISO 4217, how many digits of a currency are behind the point, where these are not 2. Intl has other numbers, those that are
 * usual in print: 0 of HUF, say, so that "100" would be 100 fillér. The console has the same table.
 */
const unusualDigits: readonly (readonly [number, string])[] = [
  [0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"],
  [3, "BHD IQD JOD KWD LYD OMR TND"],
  [4, "CLF UYW"],
];

function digitsOf(currencyCode: string): number {
  return unusualDigits.find(([, codes]) => codes.includes(currencyCode))?.[0] ?? 2;
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
