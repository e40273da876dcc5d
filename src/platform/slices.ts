/** How long a long work may hold the event loop before it lets others go on. */
const maxSliceMs = 5;
/** Items that are worked on before the clock is looked at. */
const itemsAtOnce = 50;

const waiting: (() => void)[] = [];
let isScheduled = false;

/**
 * The next slice for a long work. A turn of the event loop has one slice: many long works together hold the process no longer
 * at a time than one.
 */
export function nextSlice(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    if (!isScheduled) setImmediate(goOn);
    isScheduled = true;
  });
}

function goOn(): void {
  const resume = waiting.shift();
  isScheduled = waiting.length > 0;
  if (isScheduled) setImmediate(goOn);
  resume?.();
}

/** Of a long work: says when to stop for a while. It begins by waiting for its first slice. */
export class Slices {
  private endMs = 0;

  /** Called between two pieces of the work: waits for the next slice when this one is over. */
  next(): Promise<void> | undefined {
    return performance.now() < this.endMs ? undefined : this.wait();
  }

  private async wait(): Promise<void> {
    await nextSlice();
    this.endMs = performance.now() + maxSliceMs;
  }
}

/** Works through 0 to less than `count`, in slices between which the process does other things. */
export async function inSlices(
  count: number,
  work: (from: number, to: number) => void,
  atOnce = itemsAtOnce,
): Promise<void> {
  const slices = new Slices();
  for (let from = 0; from < count; from += atOnce) {
    if (from > 0) await slices.next();
    work(from, Math.min(count, from + atOnce));
  }
}
