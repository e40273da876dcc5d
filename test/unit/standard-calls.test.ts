import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { StandardCalls, type StandardMethod } from "../../src/transport/standard/standard-method.js";

const echo: StandardMethod = {
  method: ServerReflection.method.serverReflectionInfo,
  limitMs: 60_000,
  answer: async function* (requests) {
    for await (const request of requests) yield request;
  },
};
const errors: unknown[] = [];
const callsOf = (max?: number, maxOfConnection?: number) =>
  new StandardCalls((error) => errors.push(error), max, maxOfConnection);
const connection = "127.0.0.1:1";
const nobodyLeaves = () => new AbortController().signal;

/** A caller that says nothing, and does not go. */
async function* silent(onListened = () => {}): AsyncIterable<object> {
  onListened();
  await new Promise(() => {});
}

/** Begins a call of such a caller; resolves when it is listened to. */
async function open(calls: StandardCalls, left = nobodyLeaves(), from = connection) {
  let ended: ReturnType<typeof outcome> | undefined;
  await new Promise<void>((resolve) => {
    ended = outcome(calls.run(echo, silent(resolve), left, from));
  });
  return { ended };
}

async function* repeated(count: number): AsyncIterable<object> {
  for (let index = 0; index < count; index += 1) yield {};
}

/** How many answers there were, and how it ended. */
async function outcome(answers: AsyncIterable<unknown>) {
  let count = 0;
  try {
    for await (const _ of answers) count += 1;
    return { count };
  } catch (error) {
    return { count, code: (error as { code: Code }).code };
  }
}

describe("a call of gRPC's own services", () => {
  test("has a number of messages", async () => {
    expect(await outcome(callsOf().run(echo, repeated(1_000), nobodyLeaves(), connection))).toEqual({ count: 1_000 });
    expect(await outcome(callsOf().run(echo, repeated(1_001), nobodyLeaves(), connection))).toEqual({
      count: 1_000,
      code: Code.ResourceExhausted,
    });
  });

  test("ends when it has taken too long, though its caller says nothing", async () => {
    const answers = callsOf().run({ ...echo, limitMs: 1 }, silent(), nobodyLeaves(), connection);
    expect(await outcome(answers)).toEqual({ count: 0, code: Code.DeadlineExceeded });
  });

  test("ends with its caller", async () => {
    const leaving = new AbortController();
    const calls = callsOf(1);
    const { ended } = await open(calls, leaving.signal);
    leaving.abort();
    await ended;
    // It has given back its place.
    expect(await outcome(calls.run(echo, repeated(1), nobodyLeaves(), connection))).toEqual({ count: 1 });
  });

  test("is one of so many streams, and does not keep a single check out", async () => {
    const calls = callsOf(2);
    const both = [await open(calls), await open(calls)];
    expect(await outcome(calls.run(echo, repeated(1), nobodyLeaves(), connection))).toEqual({
      count: 0,
      code: Code.ResourceExhausted,
    });
    const check = { ...echo, method: Health.method.check };
    expect(await outcome(calls.run(check, repeated(1), nobodyLeaves(), connection))).toEqual({ count: 1 });

    calls.close();
    expect(await Promise.all(both.map(({ ended }) => ended))).toEqual(
      both.map(() => ({ count: 0, code: Code.Unavailable })),
    );
    expect(await outcome(calls.run(echo, repeated(1), nobodyLeaves(), connection))).toEqual({
      count: 0,
      code: Code.Unavailable,
    });
  });

  test("is one of so many streams of its connection, and of all", async () => {
    const calls = callsOf(3, 2);
    const others = "127.0.0.1:2";
    const leaving = new AbortController();
    const first = await open(calls, leaving.signal);
    await open(calls);
    const oneMore = (from: string) => outcome(calls.run(echo, repeated(1), nobodyLeaves(), from));
    expect(await oneMore(connection)).toEqual({ count: 0, code: Code.ResourceExhausted });
    expect(await oneMore(others)).toEqual({ count: 1 });
    leaving.abort();
    await first.ended;
    expect(await oneMore(connection)).toEqual({ count: 1 });
    await open(calls, nobodyLeaves(), others);
    await open(calls, nobodyLeaves(), others);
    expect(await oneMore(connection)).toEqual({ count: 0, code: Code.ResourceExhausted });
  });

  test("that fails is reported, and says nothing of it", async () => {
    const broken: StandardMethod = {
      ...echo,
      // biome-ignore lint/correctness/useYield: it fails before it has anything to say.
      answer: async function* () {
        throw new Error("planted");
      },
    };
    expect(await outcome(callsOf().run(broken, repeated(1), nobodyLeaves(), connection))).toEqual({
      count: 0,
      code: Code.Internal,
    });
    expect(errors).toEqual([expect.objectContaining({ message: "planted" })]);
  });
});
