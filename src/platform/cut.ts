const encoder = new TextEncoder();

/**
 * The beginning of a text, of so many bytes in UTF-8 at most, in whole characters. Half of one, be it the text's own or what a cut has
 * left, is replaced or left out: it cannot be sent, and whoever is to send it throws. So is NUL, which Postgres does not keep.
 */
export function cut(given: string, maxBytes: number): string {
  const text = given.includes("\0") ? given.replaceAll("\0", "\uFFFD") : given;
  // That is as much as any text of this length can take.
  if (text.length * 3 <= maxBytes) return text.toWellFormed();
  const { read } = encoder.encodeInto(text, Buffer.allocUnsafe(maxBytes));
  return text.slice(0, read).toWellFormed();
}
