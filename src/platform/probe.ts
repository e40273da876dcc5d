/** Between two probes, and after one that got no answer. */
const pauseMs = 1_000;
const againMs = 100;
/**
 * A probe has failed when the event loop has gone round this often without an answer, which takes a second at least. Turns
 * are counted and not time alone: however long this process was held up, an answer that lies there is read in the next one.
 */
const patienceTurns = 20;
const turnMs = 50;
/** In a row; then the store is away. */
const maxFailures = 3;
/** So fresh an answer to anybody proves that the store is there: as old as what a probe waits for, and as a refused one. */
const proofMs = { FAILED: 1_000, REFUSED: 100 };

/** What came of a probe. REFUSED: nobody is there to ask. FAILED: no answer, or an error. */
export type ProbeOutcome = "ANSWERED" | "REFUSED" | "FAILED";

export interface Health {
  readonly up: boolean;
  /** Probes without an answer in a row. */
  readonly failures: number;
}

/** `sinceAnswerMs`: since the store last answered anybody. A store that is away comes back by answering a probe. */
export function assess({ up, failures }: Health, outcome: ProbeOutcome, sinceAnswerMs: number): Health {
  if (outcome === "ANSWERED") return { up: true, failures: 0 };
  const isAway = (outcome === "REFUSED" || failures + 1 >= maxFailures) && sinceAnswerMs >= proofMs[outcome];
  return { up: up && !isAway, failures: failures + 1 };
}

export interface ProbeOptions {
  /** Rejects when the store does not answer. The signal is aborted when nobody waits for it any more. */
  readonly probe: (signal: AbortSignal) => Promise<unknown>;
  readonly isRefusal: (error: unknown) => boolean;
  /** performance.now() of the last answer that anybody had of the store. */
  readonly lastAnswerMs: () => number;
  readonly onChange: (up: boolean) => void;
  readonly onFailure?: (outcome: ProbeOutcome) => void;
}

/** Asks a store for a sign of life, and tells when that changes. It counts as up until it is known to be away. */
export class Probe {
  private timer: NodeJS.Timeout | undefined;
  private closed = false;
  private health: Health = { up: true, failures: 0 };

  constructor(private readonly options: ProbeOptions) {}

  get up(): boolean {
    return this.health.up;
  }

  start(): void {
    this.next(pauseMs);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
  }

  private next(afterMs: number): void {
    if (!this.closed) this.timer = setTimeout(() => void this.round(), afterMs);
  }

  private async round(): Promise<void> {
    const { lastAnswerMs, onChange, onFailure } = this.options;
    const outcome = await this.probe();
    if (this.closed) return;
    if (outcome !== "ANSWERED") onFailure?.(outcome);
    const before = this.health;
    this.health = assess(before, outcome, performance.now() - lastAnswerMs());
    if (this.health.up !== before.up) onChange(this.health.up);
    this.next(outcome === "ANSWERED" ? pauseMs : againMs);
  }

  private async probe(): Promise<ProbeOutcome> {
    const { probe, isRefusal } = this.options;
    const givenUp = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<ProbeOutcome>((resolve) => {
      const turn = (left: number) => {
        if (left === 0) resolve("FAILED");
        else timer = setTimeout(turn, turnMs, left - 1);
      };
      turn(patienceTurns);
    });
    const answer = probe(givenUp.signal).then(
      () => "ANSWERED" as const,
      (error) => (isRefusal(error) ? "REFUSED" : "FAILED"),
    );
    try {
      return await Promise.race([answer, silence]);
    } finally {
      clearTimeout(timer);
      givenUp.abort();
    }
  }
}
