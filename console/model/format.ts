import type { Discount, Money } from "./messages.js";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const count = (value: number): string => whole.format(value);

/** In a second: "0", "0.4", "12", "1,503". */
export function rate(value: number | null): string {
  if (value === null) return "–";
  return value > 0 && value < 10 ? tenth.format(value) : whole.format(value);
}

/** Of 1; what is not all is never shown as all, and what is something never as nothing. */
export function percent(share: number): string {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share > 0.999 && share < 1) return "> 99.9 %";
  return `${share > 0 && share < 0.1 ? tenth.format(share * 100) : whole.format(share < 1 ? Math.floor(share * 100) : 100)} %`;
}

export function milliseconds(value: number | null): string {
  if (value === null) return "–";
  return value >= 1_000
    ? `${tenth.format(value / 1_000)} s`
    : `${value < 10 ? tenth.format(value) : whole.format(value)} ms`;
}

/** About how long: "40 s", "3 min", "2 h 10 min", "5 days". */
export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 90 * 60) return `${Math.round(s / 60)} min`;
  if (s < 36 * 3_600) {
    const minutes = Math.round(s / 60);
    return minutes % 60 === 0 ? `${minutes / 60} h` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }
  return s < 1_000 * 86_400 ? `${whole.format(s / 86_400)} days` : `${whole.format(s / (365.25 * 86_400))} years`;
}

/** In the viewer's zone, which the page names once. */
export function time(text: string | undefined): string {
  if (!text) return "–";
  return new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" }).format(new Date(text));
}

/** Of today, in the same zone. */
export function clock(at: Date): string {
  return new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" }).format(at);
}

export function zone(now: Date): string {
  const { timeZone } = new Intl.DateTimeFormat().resolvedOptions();
  const minutes = -now.getTimezoneOffset();
  const sign = minutes < 0 ? "−" : "+";
  const hours = `${Math.floor(Math.abs(minutes) / 60)}`.padStart(2, "0");
  return `${timeZone} (UTC${sign}${hours}:${`${Math.abs(minutes) % 60}`.padStart(2, "0")})`;
}

/** By ISO 4217, how many digits of a currency are behind the point, where these are not 2: the table of the TypeScript client. */
const unusualDigits: readonly (readonly [number, string])[] = [
  [0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"],
  [3, "BHD IQD JOD KWD LYD OMR TND"],
  [4, "CLF UYW"],
];

export function money(amount: Money | undefined): string {
  if (!amount?.currencyCode) return "–";
  const units = Number(amount.minorUnits ?? 0);
  try {
    const currency = amount.currencyCode;
    const digits = unusualDigits.find(([, codes]) => codes.includes(currency))?.[0] ?? 2;
    const exactly = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    return new Intl.NumberFormat("en", { style: "currency", currency, ...exactly }).format(units / 10 ** digits);
  } catch {
    return `${units} ${amount.currencyCode}`;
  }
}

export function discount(value: Discount | undefined): string {
  if (!value) return "–";
  const what = value.fixedAmount
    ? `${money(value.fixedAmount)} off`
    : `${tenth.format((value.percentageBasisPoints ?? 0) / 100)} % off`;
  const limits = [
    value.maximumAmount && `${money(value.maximumAmount)} at most`,
    value.minimumOrderAmount && `from ${money(value.minimumOrderAmount)}`,
  ].filter(Boolean);
  return limits.length > 0 ? `${what} (${limits.join(", ")})` : what;
}
