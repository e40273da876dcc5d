/** How many requests or settlements one script call takes; bounded by Lua's stack and by how long Redis may be busy. */
export const scriptBatchSize = 128;

interface Waiting<Item, Answer> {
  readonly item: Item;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

interface Gathering<Item, Answer> {
  waiting: Waiting<Item, Answer>[];
  asking: boolean;
}

/** Items of the same coupon share script calls. While one call is under way, the items of the next one gather. */
export class Batcher<Item, Answer> {
  private readonly gatherings = new Map<string, Gathering<Item, Answer>>();

  constructor(private readonly call: (couponId: string, items: readonly Item[]) => Promise<readonly Answer[]>) {}

  submit(couponId: string, item: Item): Promise<Answer> {
    return new Promise((resolve, reject) => {
      let gathering = this.gatherings.get(couponId);
      if (!gathering) {
        gathering = { waiting: [], asking: false };
        this.gatherings.set(couponId, gathering);
      }
      gathering.waiting.push({ item, resolve, reject });
      if (gathering.asking) return;
      gathering.asking = true;
      // What else arrives in this turn of the event loop comes along.
      setImmediate((one: Gathering<Item, Answer>) => void this.serve(couponId, one), gathering);
    });
  }

  private async serve(couponId: string, gathering: Gathering<Item, Answer>): Promise<void> {
    while (gathering.waiting.length > 0) {
      const batch = gathering.waiting.splice(0, scriptBatchSize);
      try {
        const answers = await this.call(
          couponId,
          batch.map(({ item }) => item),
        );
        batch.forEach(({ resolve }, index) => {
          resolve(answers[index] as Answer);
        });
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    gathering.asking = false;
    this.gatherings.delete(couponId);
  }
}
