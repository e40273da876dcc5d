import { Overloaded } from "../../../domain/refusal.js";
import { steadyMs } from "../../../platform/clock.js";
import { lockTimeoutMs } from "../errors.js";

/**
 * Of each coupon only a few transactions that are no batch are under way at once: when somebody holds it, all of them together would have all
 * connections, and what is asked of other coupons would wait behind them. The same holds of anything else that has a name.
 */
export class FewAtOnce {
  /** By name, which is a coupon's id mostly: the ends of those that are under way or wait, in order. */
  private readonly ends = new Map<string, Promise<void>[]>();

  constructor(
    private readonly most: number,
    /** As long as for any other lock. */
    private readonly waitMs = lockTimeoutMs,
  ) {}

  /** Throws Overloaded, and nothing was done, when it has waited for those before it for so long. */
  async run<T>(names: readonly string[], work: () => Promise<T>): Promise<T> {
    const untilMs = steadyMs() + this.waitMs;
    const before = names.map((name) => this.ends.get(name)?.at(-this.most));
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    for (const name of names) this.ends.set(name, [...(this.ends.get(name) ?? []), ended]);
    try {
      await Promise.all(before);
      if (steadyMs() >= untilMs) throw new Overloaded();
      return await work();
    } finally {
      end();
      for (const name of names) {
        const others = this.ends.get(name)!.filter((one) => one !== ended);
        if (others.length > 0) this.ends.set(name, others);
        else this.ends.delete(name);
      }
    }
  }
}
