/** How many asks or settlements one script call takes; bounded by Lua's stack and by how long Redis may be busy. */
export const scriptBatchSize = 128;

interface Waiting<Ask, Answer> {
  readonly ask: Ask;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

interface Gathering<Ask, Answer> {
  waiting: Waiting<Ask, Answer>[];
  asking: boolean;
}

/** Asks for the same coupon share script calls. While one script call is under way, the asks for the next one gather. */
export class Batcher<Ask, Answer> {
  private readonly gatherings = new Map<string, Gathering<Ask, Answer>>();

  constructor(private readonly call: (couponId: string, asks: readonly Ask[]) => Promise<readonly Answer[]>) {}

  ask(couponId: string, ask: Ask): Promise<Answer> {
    return new Promise((resolve, reject) => {
      let gathering = this.gatherings.get(couponId);
      if (!gathering) {
        gathering = { waiting: [], asking: false };
        this.gatherings.set(couponId, gathering);
      }
      gathering.waiting.push({ ask, resolve, reject });
      if (gathering.asking) return;
      gathering.asking = true;
      // What else arrives in this turn of the event loop comes along.
      setImmediate((one: Gathering<Ask, Answer>) => void this.serve(couponId, one), gathering);
    });
  }

  private async serve(couponId: string, gathering: Gathering<Ask, Answer>): Promise<void> {
    while (gathering.waiting.length > 0) {
      const batch = gathering.waiting.splice(0, scriptBatchSize);
      try {
        const answers = await this.call(
          couponId,
          batch.map(({ ask }) => ask),
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
