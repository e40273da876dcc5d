/**
 * Asks of one turn of the event loop, up to a number, share one query. An ask that comes alone goes alone and at once;
 * when many come, the driver's and the server's work for each query is what they save. What fails, fails for all of one
 * query, so nothing in an ask may be able to make it fail.
 */
export class TurnBatch<Ask, Answer> {
  private waiting: { ask: Ask; resolve: (answer: Answer) => void; reject: (error: unknown) => void }[] = [];

  /** `run` answers in the order of the asks. */
  constructor(
    private readonly maxAsks: number,
    private readonly run: (asks: readonly Ask[]) => Promise<readonly Answer[]>,
  ) {}

  add(ask: Ask): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ ask, resolve, reject });
      if (this.waiting.length === 1) setImmediate(() => this.flush());
      else if (this.waiting.length === this.maxAsks) this.flush();
    });
  }

  private flush(): void {
    const batch = this.waiting;
    if (batch.length === 0) return;
    this.waiting = [];
    this.run(batch.map(({ ask }) => ask)).then(
      (answers) => {
        for (const [index, { resolve }] of batch.entries()) resolve(answers[index] as Answer);
      },
      (error) => {
        for (const { reject } of batch) reject(error);
      },
    );
  }
}
