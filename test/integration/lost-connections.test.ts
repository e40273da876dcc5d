import { randomUUID } from "node:crypto";
import { sql as statement } from "drizzle-orm";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { StoreUnavailable } from "../../src/domain/refusal.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { once } from "../../src/storage/postgres/requests.js";
import { until } from "../support/until.js";
import {
  type ClockedDatabase,
  insertCoupon,
  insertHoldings,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const forever = Number.POSITIVE_INFINITY;
const rounds = 10;
/** Of the event loop: longer than a session takes to end and its connection to close. */
const maxTurns = 25;

let clocked: ClockedDatabase;
const endings = ["uncaughtException", "unhandledRejection"] as const;
/** What would have ended the process. */
let uncaught: unknown[];
const onUncaught = (error: unknown) => void uncaught.push(error);

beforeAll(async () => {
  // One connection for each client, so that whoever comes next gets the one that was lost.
  clocked = await openClockedDatabase(noon, 4);
  await clocked.sql`CREATE TABLE notes (writer text NOT NULL)`;
});
afterAll(() => clocked?.close());
beforeEach(async () => {
  uncaught = [];
  for (const event of endings) process.on(event, onUncaught);
  await clocked.sql`TRUNCATE notes`;
});
afterEach(async () => {
  // What the driver still had to write is written by then.
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  for (const event of endings) process.off(event, onUncaught);
  expect(uncaught).toEqual([]);
});

interface Writer {
  pid(): Promise<number>;
  note(writer: string): Promise<unknown>;
  sleep(): Promise<unknown>;
}

/** The two ways in which the program opens transactions. */
const ways: Record<string, <T>(work: (tx: Writer) => Promise<T>) => Promise<T>> = {
  "sql.begin": (work) =>
    clocked.database.reads.run(
      forever,
      ({ sql }) =>
        sql.begin((tx) =>
          work({
            pid: async () => (await tx`SELECT pg_backend_pid() AS pid`)[0]?.pid,
            note: async (writer) => await tx`INSERT INTO notes VALUES (${writer})`,
            sleep: async () => await tx`SELECT pg_sleep(20)`,
          }),
        ) as Promise<never>,
    ),
  once: (work) =>
    once(clocked.database, null, forever, (tx) =>
      work({
        pid: async () => Number((await tx.execute(statement`SELECT pg_backend_pid() AS pid`))[0]?.pid),
        note: (writer) => tx.execute(statement`INSERT INTO notes VALUES (${writer})`),
        sleep: () => tx.execute(statement`SELECT pg_sleep(20)`),
      }),
    ),
};

const outcomeOf = (call: Promise<unknown>) =>
  call.then(
    () => "done",
    (error) => (error instanceof StoreUnavailable ? "StoreUnavailable" : error),
  );

function later<T>() {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

/** Returns when the session is gone. */
const kill = async (pid: number) => void (await clocked.sql`SELECT pg_terminate_backend(${pid}, 5000)`);
const killSleeping = (pid: number) =>
  until("it sleeps, and is killed", async () => {
    const [row] = await clocked.sql`
      SELECT pg_terminate_backend(pid, 5000) AS killed FROM pg_stat_activity
      WHERE pid = ${pid} AND query LIKE '%pg_sleep%' AND wait_event = 'PgSleep'`;
    return row?.killed;
  });
const notes = async () => (await clocked.sql`SELECT writer FROM notes ORDER BY writer`).map(({ writer }) => writer);

describe.each(Object.keys(ways))("a transaction of %s that loses its connection", (name) => {
  const run = ways[name] as (typeof ways)[string];
  // The driver keeps the server's last word on a lost connection, and fails the next statement there with it, once.
  const works = () => until("the client works", async () => (await outcomeOf(run((tx) => tx.pid()))) === "done");

  test("between statements", async () => {
    for (let round = 0; round < rounds; round++) {
      const call = run(async (tx) => {
        const pid = await tx.pid();
        await tx.note("lost");
        await kill(pid);
        await tx.note("lost");
      });
      expect(await outcomeOf(call)).toBe("StoreUnavailable");
      await works();
      await run((tx) => tx.note("kept"));
    }
    expect(await notes()).toEqual(Array(rounds).fill("kept"));
  });

  test("during a statement", async () => {
    for (let round = 0; round < rounds; round++) {
      const call = run(async (tx) => {
        const pid = await tx.pid();
        await Promise.all([tx.sleep(), tx.note("lost"), killSleeping(pid)]);
      });
      expect(await outcomeOf(call)).toBe("StoreUnavailable");
      await works();
    }
    expect(await notes()).toEqual([]);
  });

  test("before its end, with or without an error of its own", async () => {
    for (let round = 0; round < rounds; round++) {
      const call = run(async (tx) => {
        await tx.note("lost");
        await kill(await tx.pid());
        if (round % 2) throw new Error("an error of its own");
      });
      expect(await outcomeOf(call)).toBe("StoreUnavailable");
      await works();
    }
    expect(await notes()).toEqual([]);
  });

  test("at any moment around its end", async () => {
    const outcomes: unknown[] = [];
    for (let round = 0; round < maxTurns; round++) {
      let killed: Promise<void> | undefined;
      const call = run(async (tx) => {
        const pid = await tx.pid();
        await tx.note(`round ${round}`);
        killed = kill(pid);
        for (let turn = 0; turn < round; turn++) await new Promise(setImmediate);
      });
      outcomes.push(await outcomeOf(call));
      await killed;
      await works();
    }
    expect(outcomes.filter((outcome) => outcome !== "done" && outcome !== "StoreUnavailable")).toEqual([]);
    // A commit whose answer was lost may have happened.
    expect(await notes()).toEqual(
      expect.arrayContaining(outcomes.flatMap((outcome, round) => (outcome === "done" ? [`round ${round}`] : []))),
    );
  });

  test("sends nothing into the transaction that uses the connection next", async () => {
    for (let round = 0; round < rounds; round++) {
      const pidKnown = later<number>();
      const goOn = later<void>();
      let left: Promise<unknown> | undefined;
      const lost = run((tx) => {
        left = (async () => {
          pidKnown.resolve(await tx.pid());
          await goOn.promise;
          await tx.note("lost");
        })();
        return left as Promise<void>;
      });
      const ended = outcomeOf(lost);
      await kill(await pidKnown.promise);
      expect(await ended).toBe("StoreUnavailable");
      const next = run(async (tx) => {
        await tx.note("next");
        goOn.resolve();
        // The lost one has come to its end, and so would its statement, COMMIT or ROLLBACK.
        expect(await left?.catch((error) => error)).toBeInstanceOf(Error);
        await tx.note("next");
        throw new Error("rolled back");
      });
      await expect(next).rejects.toThrow("rolled back");
    }
    expect(await notes()).toEqual([]);
  });

  test("fifty at once leave the client as it was", async () => {
    const calls = Array.from({ length: 50 }, () =>
      outcomeOf(
        run(async (tx) => {
          await kill(await tx.pid());
          await tx.note("lost");
        }),
      ),
    );
    const outcomes = await Promise.all(calls);
    expect(new Set(outcomes)).toEqual(new Set(["StoreUnavailable"]));
    await works();
    await run((tx) => tx.note("kept"));
    expect(await notes()).toEqual(["kept"]);
  });

  test("rolls back as ever when the connection lives", async () => {
    for (let round = 0; round < 50; round++) {
      const call = run(async (tx) => {
        await tx.note("lost");
        throw new Error("an error of its own");
      });
      await expect(call).rejects.toThrow("an error of its own");
    }
    await run((tx) => tx.note("kept"));
    expect(await notes()).toEqual(["kept"]);
  });
});

test("nested transactions lose their connection too, or keep what they did", async () => {
  const { writes } = clocked.database;
  const note = (writer: string) => statement`INSERT INTO notes VALUES (${writer})`;
  await writes.run(forever, ({ orm }) =>
    orm.transaction(async (tx) => {
      await tx.transaction((inner) => inner.execute(note("kept")));
      const failing = tx.transaction(async (inner) => {
        await inner.execute(note("lost"));
        throw new Error("only this one");
      });
      await expect(failing).rejects.toThrow("only this one");
    }),
  );
  const lost = writes.run(forever, ({ orm }) =>
    orm.transaction((tx) =>
      tx.transaction(async (inner) => {
        const [row] = await inner.execute(statement`SELECT pg_backend_pid() AS pid`);
        await kill(Number(row?.pid));
        await inner.execute(note("lost"));
      }),
    ),
  );
  await expect(lost).rejects.toMatchObject({ cause: { code: "CONNECTION_CLOSED" } });
  expect(await notes()).toEqual(["kept"]);
});

test("a statement that was never sent fails its transaction and no other", async () => {
  const { writes } = clocked.database;
  const call = writes.run(forever, ({ sql }) =>
    sql.begin(async (tx) => {
      await tx`INSERT INTO notes VALUES ('lost')`;
      await tx`INSERT INTO notes VALUES (${undefined as unknown as string})`;
    }),
  );
  await expect(call).rejects.toMatchObject({ code: "UNDEFINED_VALUE" });
  await writes.run(forever, ({ sql }) => sql.begin(async (tx) => await tx`INSERT INTO notes VALUES ('kept')`));
  expect(await notes()).toEqual(["kept"]);
});

test("reading a coupon for the gate loses its connection while the gate is busy", async () => {
  const store = new PostgresIssueStore(clocked.database, "UTC", { rowsAtOnce: 500, maxBytes: 1_000_000 });
  const couponId = await insertCoupon(clocked.sql, openCoupon(noon));
  const holdings = Array.from({ length: 1_200 }, (_, n) => ({
    couponId,
    userId: `u${n}`,
    slot: 1,
    requestId: null,
    validUntil: null,
    id: randomUUID(),
  }));
  await insertHoldings(clocked.sql, holdings, noon);
  for (const goesOn of [true, false]) {
    for (let round = 0; round < rounds; round++) {
      const call = store.readGate(couponId, async () => {
        const [row] = await clocked.sql`
          SELECT pg_terminate_backend(pid, 5000) AS killed FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'coupon-service' AND state <> 'idle'`;
        expect(row?.killed).toBe(true);
        return goesOn;
      });
      expect(await outcomeOf(call)).toBe("StoreUnavailable");
    }
    const facts = await until("the client works", () => store.readGate(couponId, async () => true));
    expect(facts).toMatchObject({ revision: 1 });
  }
});
