import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DeadlinePassed, Overloaded, StoreUnavailable } from "../../src/domain/refusal.js";
import { queryTimeoutMs } from "../../src/storage/postgres/errors.js";
import { type Link, Pool, type PoolEvents } from "../../src/storage/postgres/pool.js";
import { followDate } from "../support/steady-clock.js";

const forever = Number.POSITIVE_INFINITY;

beforeEach(() => {
  vi.useFakeTimers();
  return followDate();
});
afterEach(() => void vi.useRealTimers());

interface Connection {
  readonly name: string;
}

/** A pool, and links that note what is done with them. */
function open({
  size = 1,
  maxWaiting = 100,
  events = {},
}: {
  size?: number;
  maxWaiting?: number;
  events?: PoolEvents;
}) {
  const notes: string[] = [];
  const links = Array.from(
    { length: size },
    (_, index): Link<Connection> => ({
      take: () => {
        notes.push(`take ${index}`);
        return { name: String(index) };
      },
      giveBack: () => void notes.push(`give back ${index}`),
    }),
  );
  return { pool: new Pool({ name: "test", links, maxWaiting, events }), notes };
}

/** Work that ends when the test says so. */
function manual<T = string>() {
  const begun: { resolve: (value: T) => void; reject: (error: unknown) => void }[] = [];
  const work = vi.fn(
    (_connection: Connection) => new Promise<T>((resolve, reject) => void begun.push({ resolve, reject })),
  );
  return { work, end: (value: T) => begun[0]?.resolve(value), fail: (error: unknown) => begun[0]?.reject(error) };
}

const outcomeOf = (call: Promise<unknown>) => call.catch((error) => error);
/** Lets everything settle that can. */
const settle = () => vi.advanceTimersByTimeAsync(0);

test("a free connection is taken in the same turn, and work at once has one each", async () => {
  const { pool, notes } = open({ size: 2 });
  const [a, b, c] = [manual(), manual(), manual()];
  const calls = [a, b, c].map(({ work }) => pool.run(forever, work));
  expect(a.work).toHaveBeenCalledTimes(1);
  expect(b.work).toHaveBeenCalledTimes(1);
  expect(a.work.mock.calls[0]?.[0].name).not.toBe(b.work.mock.calls[0]?.[0].name);
  expect(c.work).not.toHaveBeenCalled();
  expect([pool.size, pool.atWork, pool.waiting]).toEqual([2, 2, 1]);
  b.end("b");
  await settle();
  expect(c.work.mock.calls[0]?.[0].name).toBe(b.work.mock.calls[0]?.[0].name);
  a.end("a");
  c.end("c");
  expect(await Promise.all(calls)).toEqual(["a", "b", "c"]);
  expect([pool.atWork, pool.waiting]).toEqual([0, 0]);
  expect(notes.filter((note) => note.startsWith("give back"))).toHaveLength(3);
  expect(vi.getTimerCount()).toBe(0);
});

test("a result that its connection does not vouch for is none", async () => {
  const objection = Object.assign(new Error("not on the standbys"), { code: "NOT_SYNCED" });
  const events: string[] = [];
  const link: Link<Connection> = {
    take: () => ({ name: "only" }),
    objection: () => (events.length === 0 ? objection : undefined),
    giveBack: () => void events.push("given back"),
  };
  const pool = new Pool({
    ...{ name: "test", links: [link] },
    events: { onAnswered: () => void events.push("answered"), onFailed: (error) => void events.push(String(error)) },
  });
  // Asked before it is given back; here it then has nothing against the next one.
  const refused = await outcomeOf(pool.run(forever, async () => "done"));
  expect(refused).toBeInstanceOf(StoreUnavailable);
  expect(events).toEqual([String(objection), "given back"]);
  expect(await pool.run(forever, async () => "done")).toBe("done");
  expect(events).toEqual([String(objection), "given back", "answered", "given back"]);
});

test("who came first is first", async () => {
  const { pool } = open({});
  const order: number[] = [];
  const calls = [0, 1, 2, 3].map((n) => pool.run(forever, async () => void order.push(n)));
  await Promise.all(calls);
  expect(order).toEqual([0, 1, 2, 3]);
});

test("what waits past its deadline is refused then, and never begun", async () => {
  const { pool } = open({});
  const [first, second, third] = [manual(), manual(), manual()];
  const holding = pool.run(forever, first.work);
  const refused = outcomeOf(pool.run(Date.now() + 200, second.work));
  const waiting = pool.run(Date.now() + 500, third.work);
  await vi.advanceTimersByTimeAsync(200);
  expect(await refused).toBeInstanceOf(DeadlinePassed);
  expect(pool.waiting).toBe(1);
  first.end("first");
  await settle();
  third.end("third");
  expect(await Promise.all([holding, waiting])).toEqual(["first", "third"]);
  expect(second.work).not.toHaveBeenCalled();
});

test("nor is it when the event loop was held, and its timer has not even fired", async () => {
  const { pool } = open({});
  const [first, second] = [manual(), manual()];
  const holding = pool.run(forever, first.work);
  const refused = outcomeOf(pool.run(Date.now() + 200, second.work));
  first.end("first");
  vi.setSystemTime(Date.now() + 300);
  expect(await holding).toBe("first");
  expect(await refused).toBeInstanceOf(DeadlinePassed);
  expect(second.work).not.toHaveBeenCalled();
  expect(pool.atWork).toBe(0);
});

test("a deadline that has passed already is not even queued", async () => {
  const { pool } = open({});
  const { work } = manual();
  expect(await outcomeOf(pool.run(Date.now(), work))).toBeInstanceOf(DeadlinePassed);
  expect(work).not.toHaveBeenCalled();
});

test.each([
  ["the deadline, when it comes first", 1_000, DeadlinePassed, 1_000],
  ["the time-out, when there is no deadline", forever, StoreUnavailable, queryTimeoutMs],
  ["the time-out, when it comes first", 60_000, StoreUnavailable, queryTimeoutMs],
])(
  "the answer comes within %s, and the connection stays taken until the work has ended",
  async (_, leftMs, error, ms) => {
    const onFailed = vi.fn();
    const { pool } = open({ events: { onFailed } });
    const { work, fail } = manual();
    const call = outcomeOf(pool.run(Date.now() + leftMs, work));
    const said = vi.fn();
    void call.then(said);
    await vi.advanceTimersByTimeAsync(ms - 1);
    expect(said).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    expect(said.mock.calls[0]?.[0]).toBeInstanceOf(error);
    expect(pool.atWork).toBe(1);
    const late = Object.assign(new Error("late"), { code: "57014" });
    fail(late);
    await settle();
    expect(pool.atWork).toBe(0);
    expect(onFailed.mock.calls).toEqual([[late, true]]);
  },
);

test("the time that it waited is part of the time-out", async () => {
  const { pool } = open({});
  const [first, second] = [manual(), manual()];
  void outcomeOf(pool.run(forever, first.work));
  const call = outcomeOf(pool.run(forever, second.work));
  await vi.advanceTimersByTimeAsync(queryTimeoutMs - 1_000);
  first.end("first");
  await settle();
  expect(second.work).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(await call).toBeInstanceOf(StoreUnavailable);
});

test("what may run for long waits no longer than the others, and then has all its time", async () => {
  const { pool } = open({});
  const [first, second, third] = [manual(), manual(), manual()];
  const holding = pool.run(forever, first.work, forever);
  const refused = outcomeOf(pool.run(forever, second.work, forever));
  await vi.advanceTimersByTimeAsync(queryTimeoutMs);
  expect(await refused).toBeInstanceOf(StoreUnavailable);
  expect(second.work).not.toHaveBeenCalled();
  const call = outcomeOf(pool.run(forever, third.work, 25_000));
  first.end("first");
  expect(await holding).toBe("first");
  await vi.advanceTimersByTimeAsync(24_999);
  third.end("third");
  expect(await call).toBe("third");
});

test("answers that lie unread when the event loop was held are read before anybody is told that there are none", async () => {
  const { pool } = open({});
  const { work, end } = manual();
  const call = pool.run(forever, work);
  // The timers that are due run first, as they do after a long turn of the event loop.
  vi.setSystemTime(Date.now() + 3_000);
  vi.advanceTimersByTime(queryTimeoutMs);
  end("read");
  expect(await call).toBe("read");
});

test("a connection that must be opened first is waited for; what has no time left then is not begun", async () => {
  let open = (_connection: Connection) => {};
  const link: Link<Connection> = {
    take: () =>
      new Promise((resolve) => {
        open = resolve;
      }),
    giveBack: () => {},
  };
  const pool = new Pool({ name: "test", links: [link] });
  const [first, second] = [manual(), manual()];
  const call = pool.run(forever, first.work);
  expect([first.work.mock.calls.length, pool.atWork]).toEqual([0, 1]);
  open({ name: "opened" });
  await settle();
  first.end("first");
  expect(await call).toBe("first");
  const late = outcomeOf(pool.run(Date.now() + 200, second.work));
  vi.setSystemTime(Date.now() + 200);
  open({ name: "opened" });
  expect(await late).toBeInstanceOf(DeadlinePassed);
  expect([second.work.mock.calls.length, pool.atWork]).toEqual([0, 0]);
});

test("past the bound of its queue it refuses", async () => {
  const { pool } = open({ maxWaiting: 2 });
  const first = manual();
  void pool.run(forever, first.work);
  const waiting = [1, 2].map(() => pool.run(forever, async () => "waited"));
  expect(await outcomeOf(pool.run(forever, async () => "no"))).toBeInstanceOf(Overloaded);
  first.end("first");
  expect(await Promise.all(waiting)).toEqual(["waited", "waited"]);
});

test("errors are the caller's, translated, and leave the connection to the next; so does work that cannot begin", async () => {
  const onFailed = vi.fn();
  const onAnswered = vi.fn();
  const { pool } = open({ events: { onFailed, onAnswered } });
  const away = Object.assign(new Error("away"), { code: "ECONNREFUSED" });
  const bug = new Error("bug");
  const calls = [
    pool.run(forever, () => Promise.reject(away)),
    pool.run(forever, () => {
      throw bug;
    }),
  ].map(outcomeOf);
  const next = pool.run(forever, async () => "next");
  expect(await calls[0]).toBeInstanceOf(StoreUnavailable);
  expect(await calls[1]).toBe(bug);
  expect(await next).toBe("next");
  expect(onFailed.mock.calls).toEqual([
    [away, false],
    [bug, false],
  ]);
  expect(onAnswered).toHaveBeenCalledTimes(1);
});

test("how long each waited is told", async () => {
  const onTaken = vi.fn();
  const { pool } = open({ events: { onTaken } });
  const first = manual();
  void pool.run(forever, first.work);
  const second = pool.run(forever, async () => "second");
  await vi.advanceTimersByTimeAsync(300);
  first.end("first");
  await second;
  expect(onTaken.mock.calls).toEqual([
    ["test", 0],
    ["test", 300],
  ]);
});
