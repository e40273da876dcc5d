import { randomUUID } from "node:crypto";
import type { Cluster } from "ioredis";
import { v7 } from "uuid";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { StoreUnavailable } from "../../src/domain/refusal.js";
import { Keys } from "../../src/reservation/redis/keys.js";
import { type ClusterNode, RedisCluster } from "../support/redis-cluster.js";
import { adminPassword } from "../support/redis-processes.js";
import { until } from "../support/until.js";
import { load, openFacts, type RedisSubject, requestOf, startSubject } from "./implementations.js";

/** So many have coupons on each master. */
const couponCount = 24;

let cluster: RedisCluster;
let subject: RedisSubject<Cluster>;
beforeAll(async () => {
  cluster = await RedisCluster.start();
});
afterAll(() => cluster?.close());

const groups = new Map<string, string>();
beforeEach(async () => {
  groups.clear();
  const quotaGroupOf = async (couponId: string) => groups.get(couponId) ?? null;
  subject = await startSubject({ quotaGroupOf }, cluster.url, cluster.connect());
});
afterEach(() => subject.close());

const keyOf = (couponId: string) =>
  new Keys(subject.keyPrefix).coupon({ couponId, quotaGroup: groups.get(couponId) ?? null, day: "" });
const admit = async (couponId: string, userId: string) =>
  (await subject.gate.admit(requestOf(couponId, userId))).outcome;
const surveyOf = async (couponId: string) =>
  (await subject.gate.survey(1_000, 10)).find((survey) => survey.couponId === couponId);

test("coupons of all masters are admitted, settled, surveyed, looked at once, and dropped", async () => {
  const couponIds = Array.from({ length: couponCount }, () => randomUUID());
  const masters = await Promise.all(couponIds.map((id) => cluster.masterOf(keyOf(id))));
  expect(new Set(masters).size).toBe(3);
  await Promise.all(couponIds.map((id) => load(subject, id, openFacts(subject.now(), { stock: 3 }))));
  await Promise.all(
    couponIds.map(async (couponId) => {
      const requests = ["a", "b", "c", "d"].map((user) => requestOf(couponId, user));
      const outcomes = await Promise.all(requests.map(async (one) => (await subject.gate.admit(one)).outcome));
      expect(outcomes).toEqual(["RESERVED", "RESERVED", "RESERVED", "UNDECIDED"]);
      await subject.gate.settle([
        { ...(requests[0] as (typeof requests)[0]), outcome: "CONFIRM", validUntil: null },
        { ...(requests[1] as (typeof requests)[0]), outcome: "RELEASE" },
      ]);
    }),
  );
  const surveys = await subject.gate.survey(1_000, 10);
  expect(surveys.map(({ couponId }) => couponId).sort()).toEqual([...couponIds].sort());
  for (const survey of surveys) expect(survey).toMatchObject({ pendingCount: 1, loaded: { stock: 1 } });

  const both = [subject.gate, await subject.another()];
  const looks = (await Promise.all(both.map((gate) => gate.lookAtDue(1_000, 10)))).flat();
  expect(looks.map(({ survey }) => survey.couponId).sort()).toEqual([...couponIds].sort());
  await subject.gate.endLooks(looks.map((look) => ({ look, again: false })));

  await Promise.all(couponIds.map((id) => subject.gate.invalidate(id)));
  for (const couponId of couponIds) expect(await admit(couponId, "e")).toBe("NOT_LOADED");
});

test("a quota counts over coupons of its group, a throttle and a usage cap hold", async () => {
  const [one, other, throttled, capped] = Array.from({ length: 4 }, () => randomUUID()) as [
    string,
    string,
    string,
    string,
  ];
  for (const id of [one, other]) groups.set(id, "drivers {of} the month");
  const quota = { group: "drivers {of} the month", maxPerDay: 1 };
  for (const id of [one, other]) await load(subject, id, openFacts(subject.now(), { quota }));
  const request = { ...requestOf(one, "u"), userCouponId: v7() };
  expect((await subject.gate.admit(request)).outcome).toBe("RESERVED");
  await subject.gate.settle([{ ...request, outcome: "CONFIRM", validUntil: null }]);
  expect(await admit(other, "u")).toBe("QUOTA_REACHED");
  expect(await admit(other, "v")).toBe("RESERVED");

  const throttle = { maxConcurrent: 1, maxPerSecond: 1, maxWaitMs: 60_000 };
  await load(subject, throttled, openFacts(subject.now(), { throttle }));
  expect([await admit(throttled, "u"), await admit(throttled, "v")]).toEqual(["RESERVED", "WAIT"]);

  await subject.gate.loadPlaces(capped, { revision: 1, remaining: 1 });
  const take = () => subject.gate.takePlace({ couponId: capped, revision: 1, usageId: randomUUID() });
  expect([await take(), await take()]).toEqual(["TAKEN", "UNDECIDED"]);
});

test("nodes that do not know the scripts any more are told them again", async () => {
  const couponIds = Array.from({ length: couponCount }, () => randomUUID());
  for (const id of couponIds) await load(subject, id, openFacts(subject.now()));
  for (const id of couponIds) expect(await admit(id, "a")).toBe("RESERVED");
  for (const node of cluster.nodes) await cluster.askNode(node, "SCRIPT", "FLUSH", "SYNC");
  for (const id of couponIds) expect(await admit(id, "b")).toBe("RESERVED");
  for (const id of couponIds) expect(await surveyOf(id)).toMatchObject({ pendingCount: 2, loaded: { stock: 8 } });
});

test("what a lost connection carried is not sent again: it may have been done", async () => {
  const couponId = randomUUID();
  await load(subject, couponId, openFacts(subject.now()));
  expect(await admit(couponId, "before")).toBe("RESERVED");
  const master = await cluster.masterOf(keyOf(couponId));
  // It is held up there, so it is certain that the connection ends before there is an answer.
  await cluster.askNode(master, "CLIENT", "PAUSE", 10_000, "WRITE");
  const asked = subject.gate.admit(requestOf(couponId, "lost"));
  const ended = expect(asked).rejects.toThrow(StoreUnavailable);
  await until("it has come", async () => /cmd=eval\w*/.test(await clientsOf(master)));
  await cluster.askNode(master, "CLIENT", "KILL", "TYPE", "normal");
  await cluster.askNode(master, "CLIENT", "UNPAUSE");
  await ended;
  await until("the connection is back", async () => (await admit(couponId, "after")) === "RESERVED");
  const { pendingCount } = (await surveyOf(couponId)) ?? {};
  expect(pendingCount).toBe(2);

  async function clientsOf(node: ClusterNode): Promise<string> {
    return String(await cluster.askNode(node, "CLIENT", "LIST"));
  }
});

test("a slot moves to another master: calls are refused or done once, and find it there", async () => {
  const couponId = randomUUID();
  await load(subject, couponId, openFacts(subject.now(), { stock: 1_000 }));
  expect(await admit(couponId, "before")).toBe("RESERVED");
  const from = await cluster.masterOf(keyOf(couponId));
  const elsewhere = await Promise.all(Array.from({ length: 30 }, () => cluster.masterOf(randomUUID())));
  const to = elsewhere.find((node) => node !== from) as ClusterNode;
  const slot = Number(await cluster.askNode(from, "CLUSTER", "KEYSLOT", keyOf(couponId)));
  let [reserved, refused, n] = [1, 0, 0];
  const ask = async () => {
    try {
      if ((await admit(couponId, `user-${n++}`)) === "RESERVED") reserved += 1;
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      refused += 1;
    }
  };

  await cluster.askNode(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", from.id);
  await cluster.askNode(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", to.id);
  await ask();
  for (;;) {
    const keys = (await cluster.askNode(from, "CLUSTER", "GETKEYSINSLOT", slot, 1)) as string[];
    if (keys.length === 0) break;
    await cluster.askNode(from, "MIGRATE", "127.0.0.1", to.port, "", 0, 5_000, "AUTH", adminPassword, "KEYS", ...keys);
    await ask();
  }
  for (const node of [to, from]) await cluster.askNode(node, "CLUSTER", "SETSLOT", slot, "NODE", to.id);
  await until("the slot is found", async () => {
    const before = reserved;
    await ask();
    return reserved > before;
  });
  expect(refused).toBeGreaterThan(0);
  expect(await cluster.masterOf(keyOf(couponId))).toBe(to);
  expect(await surveyOf(couponId)).toMatchObject({ pendingCount: reserved, loaded: { stock: 1_000 - reserved } });
});
