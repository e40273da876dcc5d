import { inSlices, nextSlice } from "./slices.js";

const longTextLength = 1_000_000;

/** The JSON of a list, made in slices. */
export async function jsonInSlices<T>(
  items: readonly T[],
  toValue: (item: T, index: number) => unknown,
): Promise<string> {
  const texts: string[] = [];
  await inSlices(items.length, (from, to) => {
    for (let index = from; index < to; index++) texts.push(JSON.stringify(toValue(items[index] as T, index)));
  });
  const text = `[${texts.join(",")}]`;
  // To put it together, and then to send it, takes a while each.
  if (text.length > longTextLength) await nextSlice();
  return text;
}

/** `items.map(change)`, in slices. */
export async function mapInSlices<T, R>(items: readonly T[], change: (item: T, index: number) => R): Promise<R[]> {
  const changed: R[] = [];
  await inSlices(items.length, (from, to) => {
    for (let index = from; index < to; index++) changed.push(change(items[index] as T, index));
  });
  return changed;
}
