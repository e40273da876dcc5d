import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { WatchEventsRequestSchema } from "../../gen/coupon/v1/event_service_pb.js";
import { Refusal, refusalIn, StreamRefused } from "../../src/domain/refusal.js";
import { callContext } from "../support/call-context.js";
import { until } from "../support/until.js";
import type { Replica } from "./service.js";
import type { Wanted } from "./told-events.js";

const deadlineMs = 20_000;
/** Before a stream that was refused is asked for again. */
const pauseMs = 20;
/** An event is told within a second, on a slow machine as well. */
const limitMs = 10_000;

type Watch = ReturnType<Replica["watchingAnew"]>;

/** Who watches events while they come, and goes on after the last cursor with the other replica: when it likes, or when its stream ends. */
export class EventStream {
  readonly ids: string[] = [];
  private cursor = "";
  private isOver = false;
  private client = new AbortController();
  private readonly watching: Promise<void>;

  constructor(
    replicas: readonly Replica[],
    readonly wanted: Wanted,
  ) {
    this.watching = this.watch(replicas.map((one) => one.watchingAnew()));
    // Whoever waits for its end is told.
    this.watching.catch(() => {});
  }

  moveOn(): void {
    this.client.abort();
  }

  async hasTold(count: number): Promise<void> {
    await until(`${count} events`, () => this.ids.length >= count, limitMs);
  }

  async end(): Promise<void> {
    this.isOver = true;
    this.client.abort();
    await this.watching;
  }

  private async watch(replicas: readonly Watch[]): Promise<void> {
    for (let turn = 0; !this.isOver; turn++) {
      this.client = new AbortController();
      try {
        await this.follow(replicas[turn % replicas.length] as Watch, this.client.signal);
      } catch (error) {
        if (!refusalIn(error)) throw error;
        await sleep(pauseMs);
      }
    }
  }

  private async follow(watch: Watch, signal: AbortSignal): Promise<void> {
    const from = this.cursor === "" ? { fromBeginning: true } : { cursor: this.cursor };
    const stream = { signal, untilMs: Number.POSITIVE_INFINITY, mayGoOn: async () => undefined };
    const context = { ...callContext(Date.now() + deadlineMs), stream };
    const messages = await watch(create(WatchEventsRequestSchema, { ...this.wanted.asked, ...from }), context);
    if (messages instanceof Refusal) throw new StreamRefused(messages);
    for await (const { events, cursor } of messages) {
      this.ids.push(...events.map(({ id }) => id));
      this.cursor = cursor;
    }
  }
}
