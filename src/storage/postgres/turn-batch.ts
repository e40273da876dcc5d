import { refusalIn } from "../../domain/refusal.js";
import { translateError } from "./errors.js";

export interface TurnBatchOptions<Item, Answer> {
  /** Items of one query at most. */
  readonly maxItems: number;
  /** How much work an item may be, and how much one query may be in all. An item that is more than that goes alone. */
  readonly weight?: { readonly of: (item: Item) => number; readonly max: number };
  /** Answers in the order of the items. */
  readonly run: (items: readonly Item[]) => Promise<readonly Answer[]>;
}

interface Waiting<Item, Answer> {
  readonly item: Item;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Items of one turn of the event loop, up to a number, share one query. An item that comes alone goes alone and at once;
 * when many come, the driver's and the server's work for each query is what they save. A query that the store chokes on
 * is asked again in halves, so that one item never makes another one fail; and whoever asks for much does not hold up many.
 */
export class TurnBatch<Item, Answer> {
  private waiting: Waiting<Item, Answer>[] = [];
  private weight = 0;

  constructor(private readonly options: TurnBatchOptions<Item, Answer>) {}

  add(item: Item): Promise<Answer> {
    const { maxItems, weight } = this.options;
    return new Promise((resolve, reject) => {
      const own = weight?.of(item) ?? 0;
      if (weight && this.waiting.length > 0 && this.weight + own > weight.max) this.flush();
      this.waiting.push({ item, resolve, reject });
      this.weight += own;
      if (this.waiting.length === 1) setImmediate(() => this.flush());
      if (this.waiting.length >= maxItems) this.flush();
    });
  }

  private flush(): void {
    const batch = this.waiting;
    if (batch.length === 0) return;
    this.waiting = [];
    this.weight = 0;
    void this.query(batch);
  }

  private async query(batch: readonly Waiting<Item, Answer>[]): Promise<void> {
    try {
      const answers = await this.options.run(batch.map(({ item }) => item));
      if (answers.length !== batch.length) throw new Error(`${answers.length} answers for ${batch.length} items`);
      for (const [index, { resolve }] of batch.entries()) resolve(answers[index] as Answer);
    } catch (error) {
      // A store that is away, or too busy, is so for each of them.
      if (batch.length === 1 || refusalIn(translateError(error))) {
        for (const { reject } of batch) reject(error);
        return;
      }
      const half = Math.ceil(batch.length / 2);
      await Promise.all([this.query(batch.slice(0, half)), this.query(batch.slice(half))]);
    }
  }
}
