/**
 * The caller's own metadata of a coupon, a user coupon or a usage. Its keys and the number and length of its values are
 * bounded by the proto file.
 */
export type Labels = Readonly<Record<string, string>>;

/** Of all keys and values together, in UTF-8: so that a row with them still fits into its page. */
export const maxLabelBytes = 2_048;

/** What is wrong with them as a whole; undefined: nothing. */
export function checkLabels(labels: Labels): string | undefined {
  let bytes = 0;
  for (const [key, value] of Object.entries(labels)) {
    // As JSON it could not be stored.
    if (!value.isWellFormed()) return `has half of a character in the value of "${key}"`;
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  return bytes > maxLabelBytes ? `must have at most ${maxLabelBytes} bytes in all keys and values together` : undefined;
}

/** Whatever order they are in. null: none. */
export function sameLabels(a: Labels | null, b: Labels | null): boolean {
  if (a === null || b === null) return a === b;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key]);
}
