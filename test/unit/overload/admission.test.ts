import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { CallKind } from "../../../src/domain/caller-limits.js";
import { Admission, type Permit } from "../../../src/transport/overload/admission.js";

const inAMinute = () => Date.now() + 60_000;

let admission: Admission;
let log: string[];

beforeEach(() => {
  vi.useFakeTimers();
  log = [];
  admission = new Admission({ maxAtWork: 20, now: () => Date.now() });
});
afterEach(() => {
  admission.close();
  vi.useRealTimers();
});

function fill(kind: CallKind): Permit[] {
  const permits: Permit[] = [];
  for (let permit = admission.enter(kind, null); permit; permit = admission.enter(kind, null)) {
    permit.begin();
    permits.push(permit);
  }
  return permits;
}

function wait(name: string, kind: CallKind = "issue", deadlineMs = inAMinute()): { permit: Permit | undefined } {
  const waiting: { permit: Permit | undefined } = { permit: undefined };
  admission.wait(
    { kind, owner: null, deadlineMs },
    (permit) => {
      waiting.permit = permit;
      log.push(`${name} in`);
    },
    () => log.push(`${name} out`),
  );
  return waiting;
}

test("no turn of the event loop begins all that come, nor all that wait when many permits become free", async () => {
  admission.close();
  admission = new Admission({ maxAtWork: 150, now: () => Date.now() });
  const permits = fill("undo");
  expect(permits.length).toBe(64);
  await vi.advanceTimersToNextTimerAsync();
  permits.push(...fill("undo"));
  expect(permits.length).toBe(128);
  await vi.advanceTimersToNextTimerAsync();
  permits.push(...fill("undo"));
  expect(permits.length).toBe(150);
  const waiting = Array.from({ length: 100 }, (_, at) => wait(`call ${at}`, "undo"));
  await vi.advanceTimersByTimeAsync(1);
  const begun = () => waiting.filter(({ permit }) => permit).length;
  for (const permit of permits) permit.end(false);
  expect(begun()).toBe(32);
  // What is free is for those who wait.
  expect(admission.enter("undo", null)).toBeNull();
  await vi.advanceTimersToNextTimerAsync();
  expect(begun()).toBe(64);
  await vi.runOnlyPendingTimersAsync();
  await vi.runOnlyPendingTimersAsync();
  expect(begun()).toBe(100);
});

describe("what is shed first", () => {
  test("administration and reads, then issuing, then using, then what cancels and unlocks", () => {
    expect(fill("manage").length).toBe(14);
    expect(fill("issue").length).toBe(3);
    expect(fill("use").length).toBe(2);
    expect(fill("undo").length).toBe(1);
    expect(admission.atWork).toBe(20);
  });

  test("of those who wait, what is shed last is let in first", () => {
    const permits = [...fill("issue"), ...fill("use"), ...fill("undo")];
    wait("read", "manage");
    wait("issue", "issue");
    wait("use", "use");
    wait("cancel", "undo");
    for (const permit of permits) permit.end(false);
    expect(log).toEqual(["cancel in", "use in", "issue in", "read in"]);
  });
});

describe("who finds no permit", () => {
  test("waits for a moment, and is let in in the order of arrival", () => {
    const [first, second] = fill("issue");
    wait("a");
    wait("b");
    expect(admission.waiting).toBe(2);
    first?.end(true);
    second?.end(true);
    expect(log).toEqual(["a in", "b in"]);
  });

  test("is not overtaken by who comes later", () => {
    const [first] = fill("issue");
    wait("a");
    first?.end(true);
    wait("b");
    expect(admission.enter("issue", null)).toBeNull();
    expect(log).toEqual(["a in"]);
  });

  test("is shed when the moment is over: a sixth of the time that its caller gives it, a burst's at least, and two seconds at most", () => {
    fill("issue");
    wait("a");
    wait("b", "issue", Number.POSITIVE_INFINITY);
    wait("c", "issue", Date.now() + 3_000);
    wait("d", "issue", Date.now() + 400);
    vi.advanceTimersByTime(240);
    expect(log).toEqual([]);
    vi.advanceTimersByTime(20);
    expect(log).toEqual(["d out"]);
    vi.advanceTimersByTime(230);
    expect(log).toEqual(["d out"]);
    vi.advanceTimersByTime(20);
    expect(log).toEqual(["d out", "c out"]);
    vi.advanceTimersByTime(1_480);
    expect(log).toEqual(["d out", "c out"]);
    vi.advanceTimersByTime(20);
    expect(log).toEqual(["d out", "c out", "a out", "b out"]);
    expect(admission.waiting).toBe(0);
  });

  test("is shed while its caller still listens, however short a time that one gives it", () => {
    fill("issue");
    wait("a", "issue", Date.now() + 50);
    wait("b", "issue", Date.now() + 100);
    vi.advanceTimersByTime(35);
    expect(log).toEqual([]);
    vi.advanceTimersByTime(14);
    expect(log).toEqual(["a out"]);
    vi.advanceTimersByTime(50);
    expect(log).toEqual(["a out", "b out"]);
  });

  test("is never shed by as many callers as can be served in that time, who call again as soon as they are answered", () => {
    let answered = 0;
    let refused = 0;
    const atWork: { permit: Permit; call: () => void }[] = [];
    const callers = Array.from({ length: 600 }, () => {
      const call = () => {
        const begin = (permit: Permit) => atWork.push({ permit, call });
        const permit = admission.enter("issue", null);
        if (permit) begin(permit);
        else {
          admission.wait({ kind: "issue", owner: null, deadlineMs: inAMinute() }, begin, () => {
            refused += 1;
            call();
          });
        }
      };
      return call;
    });
    for (const call of callers) call();
    // 1,700 a second, whatever waits.
    for (let time = 0; time < 300; time += 1) {
      for (const { permit, call } of atWork.splice(0)) {
        permit.end(true);
        answered += 1;
        call();
      }
      vi.advanceTimersByTime(10);
    }
    expect(refused).toBe(0);
    expect(answered).toBeGreaterThan(5_000);
  });

  test("in a flood is overtaken by the newest when the queue does not end, and soon shed", () => {
    admission.close();
    admission = new Admission({ maxAtWork: 20, now: () => Date.now(), isFlooded: () => true });
    const permits = fill("issue");
    for (let at = 0; at < 9; at += 1) {
      wait(`${at}`);
      vi.advanceTimersByTime(10);
    }
    wait("late");
    vi.advanceTimersByTime(15);
    wait("latest");
    permits.pop()?.end(false);
    expect(log.at(-1)).toBe("latest in");
    vi.advanceTimersByTime(30);
    expect(log).toContain("late out");
    expect(admission.waiting).toBe(0);
  });

  test("after connections were turned away does not wait for as long", () => {
    admission.close();
    let isFlooded = true;
    admission = new Admission({ maxAtWork: 20, now: () => Date.now(), isFlooded: () => isFlooded });
    fill("issue");
    wait("a");
    vi.advanceTimersByTime(110);
    expect(log).toEqual(["a out"]);
    isFlooded = false;
    wait("b");
    vi.advanceTimersByTime(400);
    expect(log).toEqual(["a out"]);
  });

  test("is shed at once when it could not be done before its caller has gone", () => {
    const permits = fill("issue");
    // What a call takes is learned from those that ended.
    for (let round = 0; round < 40; round += 1) {
      vi.advanceTimersByTime(100);
      for (const permit of permits.splice(0)) permit.end(true);
      permits.push(...fill("issue"));
    }
    wait("hasty", "issue", Date.now() + 20);
    expect(log).toEqual(["hasty out"]);
    wait("patient", "issue", Date.now() + 5_000);
    expect(log).toEqual(["hasty out"]);
    // Calls take 100 ms.
    wait("brisk", "issue", Date.now() + 250);
    vi.advanceTimersByTime(145);
    expect(log).toEqual(["hasty out"]);
    vi.advanceTimersByTime(10);
    expect(log).toEqual(["hasty out", "brisk out"]);
  });
});

describe("a permit", () => {
  test("is given back once", () => {
    const [permit] = fill("issue");
    permit?.end(true);
    permit?.end(true);
    expect(admission.atWork).toBe(16);
  });

  test("lets another call be at work while it yields, and is at work again afterwards", async () => {
    const [permit] = fill("issue");
    wait("other");
    let wake = () => {};
    const yielding = permit?.yield(
      () =>
        new Promise<void>((resolve) => {
          wake = resolve;
        }),
    );
    expect(log).toEqual(["other in"]);
    expect(admission.atWork).toBe(17);
    wake();
    await yielding;
    expect(admission.atWork).toBe(18);
    permit?.end(true);
    expect(admission.atWork).toBe(17);
  });

  test("that ends while it yields has been given back", async () => {
    const [permit] = fill("issue");
    let wake = () => {};
    const yielding = permit?.yield(
      () =>
        new Promise<void>((resolve) => {
          wake = resolve;
        }),
    );
    permit?.end(false);
    wake();
    await yielding;
    expect(admission.atWork).toBe(16);
  });
});

describe("a message that takes long to arrive", () => {
  test("does not keep others out: it is given up, and asked for again", () => {
    const slow = admission.enter("issue", null);
    const others = fill("issue");
    wait("other");
    vi.advanceTimersByTime(60);
    expect(log).toEqual([]);
    vi.advanceTimersByTime(100);
    expect(log).toEqual(["other in"]);
    expect(slow?.begin()).toBe(false);
    slow?.end(false);
    expect(admission.atWork).toBe(17);
    others.pop()?.end(false);
    expect(admission.atWork).toBe(16);
  });

  test("is not late because the process was held up: what has come meanwhile is read first", async () => {
    vi.useRealTimers();
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "Date"] });
    const held = admission.enter("issue", null);
    fill("issue");
    wait("other");
    // Timers come before what is read, in one turn of the event loop.
    vi.advanceTimersByTime(160);
    expect(held?.begin()).toBe(true);
    await new Promise((resolve) => setImmediate(resolve));
    expect(log).toEqual([]);
    held?.end(false);
    expect(log).toEqual(["other in"]);
  });

  test("is had again when there is one", () => {
    const slow = admission.enter("issue", null);
    vi.advanceTimersByTime(160);
    expect(admission.atWork).toBe(0);
    expect(slow?.begin()).toBe(true);
    expect(admission.atWork).toBe(1);
    slow?.end(true);
    expect(admission.atWork).toBe(0);
  });
});

describe("one connection", () => {
  const greedy = {};
  const modest = {};

  test("may have all permits while it is the only one", () => {
    let count = 0;
    while (admission.enter("issue", greedy)) count += 1;
    expect(count).toBe(17);
  });

  test("has half of them at most while others have calls, and what waits of it is passed over", () => {
    const first = admission.enter("issue", modest);
    first?.end(false);
    let count = 0;
    while (admission.enter("issue", greedy)) count += 1;
    expect(count).toBe(9);
    admission.wait(
      { kind: "issue", owner: greedy, deadlineMs: inAMinute() },
      () => log.push("greedy in"),
      () => log.push("greedy out"),
    );
    const permit = admission.enter("issue", modest);
    expect(permit).not.toBeNull();
    permit?.end(false);
    expect(log).toEqual([]);
  });

  test("that sends no messages keeps no others out: what has given up its permit still counts as its own", () => {
    admission.enter("issue", modest)?.end(false);
    const silent: (Permit | null)[] = [];
    for (let round = 0; round < 3; round += 1) {
      for (let permit = admission.enter("issue", greedy); permit; permit = admission.enter("issue", greedy)) {
        silent.push(permit);
      }
      vi.advanceTimersByTime(160);
    }
    expect([silent.length, admission.atWork]).toEqual([9, 0]);
    // They have come after all.
    expect(silent.map((permit) => permit?.begin())).toEqual(silent.map(() => true));
    admission.enter("issue", modest)?.end(false);
    for (const permit of silent) permit?.end(false);
    expect([admission.atWork, admission.enter("issue", greedy) === null]).toEqual([0, false]);
  });
});
