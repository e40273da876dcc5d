/** Items that are worked on before others get their turn. */
const sliceSize = 1_000;

/** Works through 0 to less than `count`, in slices between which the process does other things. */
export async function inSlices(
  count: number,
  work: (from: number, to: number) => void,
  size = sliceSize,
): Promise<void> {
  for (let from = 0; from < count; from += size) {
    if (from > 0) await new Promise((resolve) => setImmediate(resolve));
    work(from, Math.min(count, from + size));
  }
}
