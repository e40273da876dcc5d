import { refusalIn } from "../../domain/refusal.js";
import { translateError } from "./errors.js";

export interface TurnBatchOptions<Ask, Answer> {
  /** Asks of one query at most. */
  readonly maxAsks: number;
  /** How much work an ask may be, and how much one query may be in all. An ask that is more than that goes alone. */
  readonly weight?: { readonly of: (ask: Ask) => number; readonly max: number };
  /** Answers in the order of the asks. */
  readonly run: (asks: readonly Ask[]) => Promise<readonly Answer[]>;
}

interface Waiting<Ask, Answer> {
  readonly ask: Ask;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Asks of one turn of the event loop, up to a number, share one query. An ask that comes alone goes alone and at once;
 * when many come, the driver's and the server's work for each query is what they save. A query that the store chokes on
 * is asked again in halves, so that one ask never makes another one fail; and whoever asks for much does not hold up many.
 */
export class TurnBatch<Ask, Answer> {
  private waiting: Waiting<Ask, Answer>[] = [];
  private weight = 0;

  constructor(private readonly options: TurnBatchOptions<Ask, Answer>) {}

  add(ask: Ask): Promise<Answer> {
    const { maxAsks, weight } = this.options;
    return new Promise((resolve, reject) => {
      const own = weight?.of(ask) ?? 0;
      if (weight && this.waiting.length > 0 && this.weight + own > weight.max) this.flush();
      this.waiting.push({ ask, resolve, reject });
      this.weight += own;
      if (this.waiting.length === 1) setImmediate(() => this.flush());
      if (this.waiting.length >= maxAsks) this.flush();
    });
  }

  private flush(): void {
    const batch = this.waiting;
    if (batch.length === 0) return;
    this.waiting = [];
    this.weight = 0;
    void this.ask(batch);
  }

  private async ask(batch: readonly Waiting<Ask, Answer>[]): Promise<void> {
    try {
      const answers = await this.options.run(batch.map(({ ask }) => ask));
      if (answers.length !== batch.length) throw new Error(`${answers.length} answers for ${batch.length} asks`);
      for (const [index, { resolve }] of batch.entries()) resolve(answers[index] as Answer);
    } catch (error) {
      // A store that is away, or too busy, is so for each of them.
      if (batch.length === 1 || refusalIn(translateError(error))) {
        for (const { reject } of batch) reject(error);
        return;
      }
      const half = Math.ceil(batch.length / 2);
      await Promise.all([this.ask(batch.slice(0, half)), this.ask(batch.slice(half))]);
    }
  }
}
