import { randomUUID } from "node:crypto";
import { expect, inject, onTestFinished, test } from "vitest";
import { freePort } from "../../embedded/free-port.js";
import { CallerRates } from "../../src/auth/limits/caller-rates.js";
import { RedisCounts } from "../../src/auth/limits/redis-counts.js";
import { WrongCodes } from "../../src/auth/limits/wrong-codes.js";
import { usualLimits } from "../../src/domain/caller-limits.js";
import { anybody, type Principal } from "../../src/domain/principal.js";
import { Refusal } from "../../src/domain/refusal.js";
import { FailureLog } from "../../src/platform/failure-log.js";
import { redisServers } from "../../src/platform/redis-servers.js";
import { openConnection } from "../../src/reservation/redis/connection.js";
import { adminPassword, dataServerLines, RedisProcesses } from "../support/redis-processes.js";
import { until } from "../support/until.js";

/** So long that none ends while a test runs. */
const windowMs = 600_000;
const caller = (id: string): Principal => ({ ...anybody, id });
const anna = caller("key:anna");
const bert = caller("jwt:https://issuer.example#{bert}");

async function replica(url: string, prefix: string) {
  const failed: string[] = [];
  const failures = new FailureLog({
    log: { error: (details) => void failed.push((details as { work: string }).work), warn: () => {} },
  });
  const connection = openConnection(redisServers({ REDIS_URL: url }), () => {});
  onTestFinished(() => connection.close());
  await connection.ready();
  const counts = (name: string) =>
    new RedisCounts({ client: connection.commands, prefix: `${prefix}:${name}`, windowMs, failures });
  const told: number[] = [];
  const rateCounts = counts("calls");
  const rates = new CallerRates({
    limits: { ...usualLimits, issue: { perSecond: 100, atOnce: 1_000 } },
    shared: {
      add: async (...count) => {
        const total = await rateCounts.add(...count);
        told.push(count[1]);
        return total;
      },
    },
    onLimited: () => {},
    windowMs,
  });
  const wrongCodes = new WrongCodes({ free: 3, shared: counts("wrong"), onLimited: () => {} });
  /** How many of so many calls are let in. */
  const letIn = (count: number, who = anna) => {
    let begun = 0;
    for (let n = 0; n < count; n++) {
      const one = rates.begin(who, "issue");
      if (one instanceof Refusal) continue;
      one.end();
      begun += 1;
    }
    return begun;
  };
  const guess = (who = anna) => {
    const end = wrongCodes.begin(who, "user", 1, "issue");
    if (end instanceof Refusal) return end.detail.retryAfterMs as number;
    end(1);
    return 0;
  };
  return { letIn, guess, told, failed };
}
const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);

test("two replicas share the calls of a caller, and ask Redis seldom", async () => {
  const prefix = `test_${randomUUID()}`;
  const url = inject("redisUrl");
  const [here, there] = [await replica(url, prefix), await replica(url, prefix)];
  expect(here.letIn(60)).toBe(60);
  await until("the others are told", () => sum(here.told) === 60);
  expect(here.told.length).toBeLessThan(5);
  // As soon as it tells what it has counted, it hears of the others.
  expect(there.letIn(2)).toBe(2);
  await until("it is heard", () => sum(there.told) === 2);
  expect(there.letIn(100)).toBe(38);
  await until("it is heard", () => sum(there.told) === 40);
  // What it lets in before it hears of that is the share after which it tells.
  expect(here.letIn(2)).toBe(2);
  await until("it is heard", () => sum(here.told) === 62);
  expect([here.letIn(10), there.letIn(10)]).toEqual([0, 0]);
  expect([here.letIn(150, bert), here.failed]).toEqual([100, []]);
});

test("a guesser is paused longer for what it has guessed elsewhere", async () => {
  const prefix = `test_${randomUUID()}`;
  const url = inject("redisUrl");
  const [here, there] = [await replica(url, prefix), await replica(url, prefix)];
  for (let n = 0; n < 4; n++) expect(here.guess()).toBe(0);
  expect(here.guess()).toBeGreaterThan(0);
  await until("it is known there", async () => {
    const third = await replica(url, prefix);
    third.guess(bert);
    expect(there.guess(bert)).toBe(0);
    return true;
  });
  expect(there.guess()).toBe(0);
  // Five in all: 1 s for the fourth, 2 s for the fifth.
  await until("the pause is that of five", () => {
    const leftMs = there.guess();
    return leftMs > 0 && leftMs <= 2_000;
  });
});

test("without Redis each replica holds its callers to the limits alone, and says so once", async () => {
  const processes = await RedisProcesses.open();
  onTestFinished(() => processes.close());
  const port = await freePort();
  await processes.write("lone.conf", dataServerLines(port));
  await processes.start("lone", port, adminPassword);
  const url = `redis://:${adminPassword}@127.0.0.1:${port}`;
  const { letIn, told, failed } = await replica(url, "test_lone");
  expect(letIn(40)).toBe(40);
  await until("it is told", () => sum(told) === 40);
  await processes.kill("lone");
  expect(letIn(20)).toBe(20);
  await until("it is said that Redis is away", () => failed.length > 0);
  expect([letIn(100), letIn(100, bert), letIn(100, bert)]).toEqual([40, 100, 0]);
  expect(failed).toHaveLength(1);
  expect(failed[0]).toContain("each replica counts for itself");
});
