/** How many asks or settlements one script call takes; bounded by Lua's stack and by how long Redis may be busy. */
export const scriptBatchSize = 128;

interface Waiting<Ask, Answer> {
  readonly ask: Ask;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

interface Line<Ask, Answer> {
  waiting: Waiting<Ask, Answer>[];
  asking: boolean;
}

/** A line of asks for each coupon. While one script call is under way, the asks for the next one gather. */
export class Lines<Ask, Answer> {
  private readonly lines = new Map<string, Line<Ask, Answer>>();

  constructor(private readonly call: (couponId: string, asks: readonly Ask[]) => Promise<readonly Answer[]>) {}

  ask(couponId: string, ask: Ask): Promise<Answer> {
    return new Promise((resolve, reject) => {
      let line = this.lines.get(couponId);
      if (!line) {
        line = { waiting: [], asking: false };
        this.lines.set(couponId, line);
      }
      line.waiting.push({ ask, resolve, reject });
      if (line.asking) return;
      line.asking = true;
      // What else arrives in this turn of the event loop comes along.
      setImmediate((one: Line<Ask, Answer>) => void this.serve(couponId, one), line);
    });
  }

  private async serve(couponId: string, line: Line<Ask, Answer>): Promise<void> {
    while (line.waiting.length > 0) {
      const batch = line.waiting.splice(0, scriptBatchSize);
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
    line.asking = false;
    this.lines.delete(couponId);
  }
}
