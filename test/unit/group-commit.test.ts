import { describe, expect, test } from "vitest";
import { GroupCommit, type GroupCommitOptions } from "../../src/batching/group-commit.js";
import { CouponsHeld, DeadlinePassed, Overloaded, StoreUnavailable } from "../../src/domain/refusal.js";
import { steadyMs } from "../../src/platform/clock.js";
import { until } from "../support/until.js";

const never = Number.POSITIVE_INFINITY;

interface Commit {
  readonly items: readonly string[];
  succeed(): void;
  fail(error: unknown): void;
}

/** A queue of texts; its commits end when the test says so. The letters before a "/" are the keys of an item. */
function heldQueue(options: Partial<GroupCommitOptions<string, string>> = {}) {
  const commits: Commit[] = [];
  const queue = new GroupCommit<string, string>({
    commit: (items) =>
      new Promise((resolve, reject) => {
        commits.push({ items, succeed: () => resolve(items.map((item) => `did ${item}`)), fail: reject });
      }),
    afterCommit: async () => {},
    onAfterCommitError: () => {},
    keysOf: (item) => (item.includes("/") ? [...(item.split("/")[0] as string)] : []),
    maxBatchSize: 100,
    maxBatches: 1,
    sideBatchSize: 1,
    maxWaiting: 100,
    ...options,
  });
  return {
    queue,
    commits,
    commit: (index: number) => until(`commit ${index} is under way`, () => commits[index]),
    submit: (...items: string[]) => items.map((item) => queue.submit(item, never)),
  };
}

/** A queue whose commits go by a rule. */
function ruledQueue(
  commit: (items: readonly string[]) => void,
  options: Partial<GroupCommitOptions<string, string>> = {},
) {
  const batches: string[][] = [];
  const held = heldQueue({
    commit: async (items) => {
      batches.push([...items]);
      commit(items);
      return items.map((item) => `did ${item}`);
    },
    ...options,
  });
  return { ...held, batches };
}

/** Lets everything run that needs no more than turns of the event loop. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
}

describe("batches", () => {
  test("items of one turn share a batch, and each gets its own outcome", async () => {
    const { submit, batches } = ruledQueue(() => {});
    expect(await Promise.all(submit("a", "b", "c"))).toEqual(["did a", "did b", "did c"]);
    expect(batches).toEqual([["a", "b", "c"]]);
  });

  test("what arrives while a batch is under way goes into the next, in the order of arrival", async () => {
    const { submit, commit, commits } = heldQueue();
    const first = submit("a");
    await commit(0);
    const later = submit("b", "c");
    await turns();
    later.push(...submit("d"));
    await turns();
    expect(commits).toHaveLength(1);
    commits[0]?.succeed();
    expect((await commit(1))?.items).toEqual(["b", "c", "d"]);
    commits[1]?.succeed();
    expect(await Promise.all([...first, ...later])).toEqual(["did a", "did b", "did c", "did d"]);
  });

  test("are no larger than the bound", async () => {
    const sizes: number[] = [];
    const { submit, batches } = ruledQueue(() => {}, { maxBatchSize: 2, onBatch: (size) => sizes.push(size) });
    await Promise.all(submit("a", "b", "c", "d", "e"));
    expect(batches).toEqual([["a", "b"], ["c", "d"], ["e"]]);
    expect(sizes).toEqual([2, 2, 1]);
  });

  test("an idle queue commits a single item at once, however large a side batch must be", async () => {
    const { submit } = ruledQueue(() => {}, { maxBatches: 2, sideBatchSize: 50 });
    expect(await Promise.all(submit("a"))).toEqual(["did a"]);
  });

  test("a side batch begins with enough items, and no more of them at once than the bound", async () => {
    const { submit, commit, commits } = heldQueue({ maxBatches: 2, sideBatchSize: 2 });
    const answers = submit("a");
    await commit(0);
    answers.push(...submit("b"));
    await turns();
    expect(commits).toHaveLength(1);
    answers.push(...submit("c"));
    expect((await commit(1))?.items).toEqual(["b", "c"]);
    answers.push(...submit("d", "e", "f"));
    await turns();
    expect(commits).toHaveLength(2);
    // The second may end before the first.
    commits[1]?.succeed();
    expect((await commit(2))?.items).toEqual(["d", "e", "f"]);
    commits[0]?.succeed();
    commits[2]?.succeed();
    expect(await Promise.all(answers)).toHaveLength(6);
  });
});

describe("items that share a key", () => {
  test("never share a batch; the later one waits, those behind it do not", async () => {
    const { submit, batches } = ruledQueue(() => {});
    await Promise.all(submit("x/1", "x/2", "y/3", "x/4"));
    expect(batches).toEqual([["x/1", "y/3"], ["x/2"], ["x/4"]]);
  });

  test("share any one of several keys", async () => {
    const { submit, batches } = ruledQueue(() => {});
    await Promise.all(submit("xy/1", "yz/2", "z/3"));
    // "z/3" shares no key with what is in the first batch.
    expect(batches).toEqual([["xy/1", "z/3"], ["yz/2"]]);
  });

  test("do not stand in each other's way once the first is dead", async () => {
    const { queue, batches } = ruledQueue(() => {});
    const dead = queue.submit("x/1", Date.now() - 1);
    const alive = queue.submit("x/2", never);
    await expect(dead).rejects.toBeInstanceOf(DeadlinePassed);
    expect(await alive).toBe("did x/2");
    expect(batches).toEqual([["x/2"]]);
  });
});

describe("an item that the store chokes on", () => {
  const choke = (...poison: string[]) =>
    ruledQueue((items) => {
      const bad = items.find((item) => poison.includes(item));
      if (bad) throw new Error(`choked on ${bad}`);
    });
  const items = ["a", "b", "c", "d", "e", "f", "g"];

  test.for([[["a"]], [["d"]], [["g"]], [["a", "b"]], [["c", "f"]], [items]] as string[][][])(
    "%s is refused alone",
    async ([poison]) => {
      const { submit } = choke(...(poison as string[]));
      const settled = await Promise.allSettled(submit(...items));
      const said = settled.map((one) => (one.status === "fulfilled" ? one.value : (one.reason as Error).message));
      expect(said).toEqual(items.map((item) => (poison?.includes(item) ? `choked on ${item}` : `did ${item}`)));
    },
  );

  test("is found by halving, and is not sent again by itself", async () => {
    const { submit, batches } = choke("c");
    await Promise.allSettled(submit("a", "b", "c", "d"));
    expect(batches).toEqual([["a", "b", "c", "d"], ["a", "b"], ["c", "d"], ["c"], ["d"]]);
  });

  test("is kept from what runs after the commit", async () => {
    const seen: [readonly string[], readonly string[]][] = [];
    const { submit } = ruledQueue(
      (batch) => {
        if (batch.includes("b")) throw new Error("choked");
      },
      {
        afterCommit: async (committed, outcomes) => {
          seen.push([committed, outcomes]);
        },
      },
    );
    await Promise.allSettled(submit("a", "b", "c"));
    expect(seen).toEqual([
      [
        ["a", "c"],
        ["did a", "did c"],
      ],
    ]);
  });

  test("is refused with an error, also when what was thrown is none", async () => {
    const { submit } = ruledQueue(() => {
      throw "text";
    });
    await expect(submit("a")[0]).rejects.toThrow("text");
  });
});

describe("a store that is away", () => {
  test("gets the same batch once more, and no caller notices", async () => {
    let calls = 0;
    const { submit, batches } = ruledQueue(() => {
      if (++calls === 1) throw new StoreUnavailable("away");
    });
    expect(await Promise.all(submit("a", "b"))).toEqual(["did a", "did b"]);
    expect(batches).toEqual([
      ["a", "b"],
      ["a", "b"],
    ]);
  });

  test("is told apart from the first time: the batch, or the half of it, that is sent again is marked", async () => {
    const marks: [string, boolean][] = [];
    const { submit } = heldQueue({
      commit: async (items, again) => {
        marks.push([items.join(), again]);
        if (marks.length === 1) throw new StoreUnavailable();
        if (items.length > 1) throw new Error("poisoned");
        return items.map((item) => `did ${item}`);
      },
    });
    expect(await Promise.all(submit("a", "b"))).toEqual(["did a", "did b"]);
    expect(await Promise.all(submit("c"))).toEqual(["did c"]);
    expect(marks).toEqual([
      ["a,b", false],
      ["a,b", true],
      ["a", true],
      ["b", true],
      ["c", false],
    ]);
  });

  test("twice: every caller is told, nothing is settled, and the next batch is tried", async () => {
    let away = true;
    let settled = 0;
    const { submit, batches } = ruledQueue(
      () => {
        if (away) throw new StoreUnavailable("away");
      },
      {
        afterCommit: async () => {
          settled += 1;
        },
      },
    );
    for (const one of await Promise.allSettled(submit("a", "b"))) {
      expect(one).toMatchObject({ status: "rejected", reason: { name: "StoreUnavailable" } });
    }
    expect(batches).toHaveLength(2);
    expect(settled).toBe(0);
    away = false;
    expect(await Promise.all(submit("c"))).toEqual(["did c"]);
  });

  test("and has no room when it is asked again: nobody is told that nothing was done", async () => {
    let calls = 0;
    const { submit, batches } = ruledQueue(() => {
      throw ++calls === 1 ? new StoreUnavailable("no answer in time") : new Overloaded();
    });
    for (const one of await Promise.allSettled(submit("a", "b"))) {
      expect(one).toMatchObject({ status: "rejected", reason: { name: "StoreUnavailable" } });
    }
    expect(batches).toHaveLength(2);
  });

  test("while a poisoned batch is halved: only that half is told", async () => {
    const { submit } = ruledQueue((batch) => {
      if (batch.length > 2) throw new Error("choked");
      if (batch.includes("d")) throw new StoreUnavailable("away");
    });
    const settled = await Promise.allSettled(submit("a", "b", "c", "d"));
    expect(settled.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "rejected"]);
  });
});

describe("a deadline", () => {
  test("that has passed on arrival: never committed", async () => {
    const { queue, batches } = ruledQueue(() => {});
    await expect(queue.submit("late", Date.now() - 1)).rejects.toBeInstanceOf(DeadlinePassed);
    await turns();
    expect(batches).toEqual([]);
  });

  test("that passes while the item waits: never committed, and the others are", async () => {
    const { queue, submit, commit, commits } = heldQueue();
    const first = submit("a");
    await commit(0);
    const deadlineMs = Date.now() + 5;
    const late = expect(queue.submit("late", deadlineMs)).rejects.toBeInstanceOf(DeadlinePassed);
    const other = submit("b");
    await until("the deadline has passed", () => Date.now() > deadlineMs);
    commits[0]?.succeed();
    expect((await commit(1))?.items).toEqual(["b"]);
    commits[1]?.succeed();
    await late;
    await Promise.all([...first, ...other]);
    expect(commits).toHaveLength(2);
  });

  test("that passes while the commit is under way changes nothing: the outcome is told", async () => {
    const { queue, commit, commits } = heldQueue();
    const deadlineMs = Date.now() + 50;
    const answer = queue.submit("a", deadlineMs);
    await commit(0);
    await until("the deadline has passed", () => Date.now() > deadlineMs);
    commits[0]?.succeed();
    expect(await answer).toBe("did a");
  });
});

test("past the bound of waiting items a new one is turned away, and nothing is done with it", async () => {
  const { queue, submit, commit, commits } = heldQueue({ maxWaiting: 2 });
  const answers = submit("a");
  await commit(0);
  answers.push(...submit("b", "c"));
  await expect(queue.submit("one too many", never)).rejects.toBeInstanceOf(Overloaded);
  commits[0]?.succeed();
  expect((await commit(1))?.items).toEqual(["b", "c"]);
  answers.push(...submit("d"));
  commits[1]?.succeed();
  expect((await commit(2))?.items).toEqual(["d"]);
  commits[2]?.succeed();
  expect(await Promise.all(answers)).toEqual(["did a", "did b", "did c", "did d"]);
});

describe("what runs after a commit", () => {
  test("has run before any caller is answered, and does not hold up the next batch", async () => {
    const told: string[] = [];
    let finish = () => {};
    const { submit, commit, commits } = heldQueue({
      afterCommit: (items) =>
        new Promise<void>((resolve) => {
          told.push(`settling ${items.join()}`);
          finish = resolve;
        }),
    });
    const [answer] = submit("a").map((one) => one.then((outcome) => told.push(outcome)));
    await commit(0);
    const [second] = submit("b");
    commits[0]?.succeed();
    await commit(1);
    await turns();
    expect(told).toEqual(["settling a"]);
    finish();
    await answer;
    expect(told).toEqual(["settling a", "did a"]);
    commits[1]?.succeed();
    await until("the second is settled", () => told.includes("settling b"));
    finish();
    await second;
  });

  test("may fail: the callers are answered all the same, and the failure is reported", async () => {
    const errors: unknown[] = [];
    const failure = new Error("settling failed");
    const { submit } = ruledQueue(() => {}, {
      afterCommit: () => Promise.reject(failure),
      onAfterCommitError: (error) => errors.push(error),
    });
    expect(await Promise.all(submit("a", "b"))).toEqual(["did a", "did b"]);
    expect(errors).toEqual([failure]);
  });
});

describe("items whose coupons others hold", () => {
  /** A queue of items whose first letter is their coupon's; `held`: those of which nothing can be committed. */
  function couponQueue(...held: string[]) {
    const holds = new Set(held);
    const queue = ruledQueue(
      (items) => {
        const found = items.map(([coupon]) => coupon as string).filter((coupon) => holds.has(coupon));
        if (found.length > 0) throw new CouponsHeld(new Set(found));
      },
      { couponOf: ([coupon]) => coupon as string },
    );
    return { ...queue, holds };
  }

  test("wait beside the others, and are committed when they are let go", async () => {
    const { batches, submit, holds } = couponQueue("a", "c");
    const [a1, b1, c1] = submit("a1", "b1", "c1");
    expect(await b1).toBe("did b1");
    const [a2, b2] = submit("a2", "b2");
    expect(await b2).toBe("did b2");
    expect(batches).toContainEqual(["b2"]);
    // One of each coupon is tried.
    expect(batches.slice(2).every((batch) => !batch.includes("a2") && batch.length < 3)).toBe(true);
    holds.delete("a");
    expect(await Promise.all([a1, a2])).toEqual(["did a1", "did a2"]);
    holds.delete("c");
    expect(await c1).toBe("did c1");
    batches.length = 0;
    await Promise.all(submit("a3", "b3", "c3"));
    expect(batches).toEqual([["a3", "b3", "c3"]]);
  });

  test("wait until their time is over", async () => {
    const { queue, holds } = couponQueue("a");
    const last = queue.submit("a0", never);
    const others = ["a1", "a2"].map((item) => queue.submit(item, steadyMs() + 20));
    for (const one of others) await expect(one).rejects.toThrow(DeadlinePassed);
    holds.clear();
    expect(await last).toBe("did a0");
    // Also the one that is tried for all.
    holds.add("a");
    const scout = queue.submit("a3", steadyMs() + 20);
    const behind = queue.submit("a4", never);
    await expect(scout).rejects.toThrow(DeadlinePassed);
    holds.clear();
    expect(await behind).toBe("did a4");
  });

  test("are no more than may wait at all", async () => {
    const { queue, submit, holds } = couponQueue("a");
    const accepted = submit(...Array.from({ length: 100 }, (_, at) => `a${at}`));
    await turns();
    await expect(queue.submit("a", never)).rejects.toThrow(Overloaded);
    holds.clear();
    expect((await Promise.all(accepted)).length).toBe(100);
    await Promise.all(submit("a"));
  });

  test("are of unknown outcome when an earlier try may have committed them", async () => {
    let tries = 0;
    const { queue } = ruledQueue(
      () => {
        tries += 1;
        throw tries === 1 ? new StoreUnavailable("away") : new CouponsHeld(new Set("a"));
      },
      { couponOf: ([coupon]) => coupon as string },
    );
    const error = await queue.submit("a", steadyMs() + 5_000).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(StoreUnavailable);
    expect(error).not.toBeInstanceOf(CouponsHeld);
    expect(tries).toBe(2);
  });

  test("are waited for by drain", async () => {
    const { queue, submit, holds, batches } = couponQueue("a");
    let answered = 0;
    for (const one of submit("a", "b")) void one.then(() => answered++);
    const drained = queue.drain();
    await until("it was tried more than once", () => batches.length > 3);
    holds.clear();
    await drained;
    expect(answered).toBe(2);
  });
});

describe("drain", () => {
  test("ends when everything has been answered: under way, waiting, clashing, and what was submitted just now", async () => {
    const { queue, submit } = ruledQueue(() => {}, { maxBatchSize: 2 });
    let answered = 0;
    for (const one of submit("x/1", "x/2", "x/3", "b", "c")) void one.then(() => answered++);
    await queue.drain();
    expect(answered).toBe(5);
  });

  test("waits for a commit that fails and is tried again", async () => {
    let calls = 0;
    const { queue, submit } = ruledQueue(() => {
      if (++calls === 1) throw new StoreUnavailable("away");
    });
    const [answer] = submit("a");
    await queue.drain();
    expect(calls).toBe(2);
    expect(await answer).toBe("did a");
  });

  test("of an empty queue ends at once", async () => {
    await heldQueue().queue.drain();
  });
});
