/** The whole number that an option gives, or a sentence that says what is wrong with it. */
export function wholeNumber(option: string, text: string, min: number, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`--${option} must be a whole number from ${grouped(min)} to ${grouped(max)}; it is "${text}".`);
}

/** What the person who typed the command can put right. Shown without a stack trace. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

const grouping = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** "10,000" */
export function grouped(value: number): string {
  return grouping.format(value);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function rounded(value: number, decimals: number): number {
  return Number(value.toFixed(decimals));
}
