import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

/** Answers the messages of a call, until it has nothing to say any more or the signal ends it. */
export type Answering = (requests: AsyncIterable<never>, signal: AbortSignal) => AsyncIterable<object>;

/** A method of gRPC's own services. It is open to everybody, and asks no store: so it does not go through the pipeline. */
export interface StandardMethod {
  readonly method: DescMethod;
  readonly answer: Answering;
  /** How long a call may take. Infinity: to watch is to wait. */
  readonly limitMs: number;
}

/** All of them, and what keeps their calls within bounds. */
export interface Standard {
  readonly methods: readonly StandardMethod[];
  readonly calls: StandardCalls;
}

/** The largest message that any of them is sent. */
export const maxStandardMessageBytes = 16 * 1024;
/** In one call. Tools ask for some ten files one after the other. */
const maxMessages = 1_000;
/** Of both ports together; what takes one message only is not counted. */
const maxStreams = 500;
/** Of one connection, so that one client alone keeps nobody else out. */
const maxOfConnection = 50;

/** Keeps all calls of a process within bounds, and ends them when the process stops. */
export class StandardCalls {
  /** Each with the connection that it has come by. */
  private readonly streams = new Map<AbortController, string>();
  private isClosed = false;

  constructor(
    private readonly onError: (error: unknown) => void,
    private readonly max = maxStreams,
    private readonly maxOf = maxOfConnection,
  ) {}

  async *run(
    { method, answer, limitMs }: StandardMethod,
    requests: AsyncIterable<unknown>,
    left: AbortSignal,
    connection: string,
  ): AsyncIterable<object> {
    const ended = new AbortController();
    const leave = () => ended.abort(left.reason);
    const isCounted = method.methodKind !== "unary";
    if (isCounted && this.isClosed) throw stopping();
    if (isCounted && (this.streams.size >= this.max || this.countOf(connection) >= this.maxOf)) {
      throw new ConnectError("too many of these are open; come again later", Code.ResourceExhausted);
    }
    if (isCounted) this.streams.set(ended, connection);
    const late = () => ended.abort(new ConnectError("that took too long", Code.DeadlineExceeded));
    const timer = limitMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(late, limitMs);
    left.addEventListener("abort", leave, { once: true });
    if (left.aborted) leave();
    try {
      yield* answer(bounded(requests, ended.signal) as AsyncIterable<never>, ended.signal);
    } catch (error) {
      // Whoever waits for an event hears of the abort and not why.
      if (ended.signal.aborted) throw ended.signal.reason;
      if (error instanceof ConnectError) throw error;
      this.onError(error);
      throw new ConnectError("internal error", Code.Internal);
    } finally {
      clearTimeout(timer);
      left.removeEventListener("abort", leave);
      this.streams.delete(ended);
    }
  }

  /** Those who watch are to watch another server: else they would hold this one up. */
  close(): void {
    this.isClosed = true;
    for (const stream of this.streams.keys()) stream.abort(stopping());
  }

  private countOf(connection: string): number {
    let count = 0;
    for (const one of this.streams.values()) if (one === connection) count += 1;
    return count;
  }
}

const stopping = () => new ConnectError("the server stops; ask another one", Code.Unavailable);

/** The messages of a call, each within its time and all within their number. */
async function* bounded<T>(requests: AsyncIterable<T>, signal: AbortSignal): AsyncIterable<T> {
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  aborted.catch(() => {});
  const messages = requests[Symbol.asyncIterator]();
  for (let count = 0; !signal.aborted; count += 1) {
    const next = messages.next();
    next.catch(() => {});
    const result = await Promise.race([next, aborted]);
    if (result.done) return;
    if (count >= maxMessages) {
      throw new ConnectError(`more than ${maxMessages} messages in one call`, Code.ResourceExhausted);
    }
    yield result.value;
  }
  throw signal.reason;
}

/** The one message of a call that has one. */
export async function only<T>(requests: AsyncIterable<T>): Promise<T> {
  for await (const request of requests) return request;
  throw new ConnectError("the message is missing", Code.InvalidArgument);
}
