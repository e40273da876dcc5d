import { Refusal } from "../domain/refusal.js";

/** For a client to take one message of a stream. */
const maxTakeMs = 60_000;

/** Waits of streams for their clients to take what they are sent. No stream is handed a message before the one before it was taken. */
export class ClientPace {
  private readonly waits = new Set<(why: Refusal) => void>();

  constructor(private readonly maxMs = maxTakeMs) {}

  /** `onSlow` is told when it takes too long, and when the server stops. Answers what is to be called when it was taken. */
  begin(onSlow: (why: Refusal) => void): () => void {
    const end = () => {
      clearTimeout(timer);
      this.waits.delete(tell);
    };
    const tell = (why: Refusal) => {
      end();
      onSlow(why);
    };
    const timer = setTimeout(() => tell(new Refusal("WATCHER_TOO_SLOW")), this.maxMs);
    this.waits.add(tell);
    return end;
  }

  /** Those who are not waiting are told by what makes their messages. */
  close(): void {
    for (const tell of this.waits) tell(new Refusal("WATCH_ENDED"));
  }
}
