const encoder = new TextEncoder();

/**
 * The beginning of a text, of so many bytes in UTF-8 at most, in whole characters. Half of one, be it the text's own or what a cut has
 * left, is replaced or left out: it cannot be sent, and whoever is to send it throws.
 */
export function cut(text: string, maxBytes: number): string {
  // That is as much as any text of this length can take.
  if (text.length * 3 <= maxBytes) return text.toWellFormed();
  const { read } = encoder.encodeInto(text, Buffer.allocUnsafe(maxBytes));
  return text.slice(0, read).toWellFormed();
}
