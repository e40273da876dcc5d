import { randomUUID } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Sql } from "postgres";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { CallError, type GrpcClient } from "../support/clients.js";
import { addCodes } from "../support/codes.js";
import type { Replica } from "../support/replica.js";
import { backing, startReplicas, twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";

/** 1: the races in their full size. */
const scale = Number(process.env.FAULT_SCALE ?? 0.008);
const rounds = Math.ceil(1_000 * scale);
const doomedCount = 24;
const byCodeCount = 29;
/** As many as a replica lets in at once, and how many of them ask Postgres. */
const crowdCount = 150;
const maxAsking = 64;
const longMs = 600_000;

type Target = { case: "couponId" | "code"; value: string };

const services: { name: string; start: () => Promise<{ sql: Sql; replicas: readonly Replica[] }> }[] = [
  { name: "two replicas with Redis", start: () => twoReplicas(afterAll) },
  {
    name: "one replica that is its own gate",
    start: async () => {
      const { stores, sql } = await backing(afterAll);
      const { databaseUrl, keyPrefix } = stores;
      return { sql, replicas: await startReplicas(afterAll, { databaseUrl, keyPrefix }, {}) };
    },
  },
];

describe.each(services)("$name", async ({ start }) => {
  const { sql, replicas } = await start();
  const clientOf = (n: number) => (replicas[n % replicas.length] as Replica).client;

  async function issueOnce(client: GrpcClient, target: Target, userId: string, requestId = ""): Promise<string> {
    try {
      await client.call(IssuanceService.method.issueCoupon, { target, userId, requestId }, { timeoutMs: 20_000 });
      return "ISSUED";
    } catch (error) {
      if (error instanceof CallError && error.reason) return error.reason;
      throw error;
    }
  }
  /** Told to come again, a caller does so, as often as it takes. */
  async function issue(client: GrpcClient, target: Target, userId: string, requestId = ""): Promise<string> {
    for (;;) {
      const said = await issueOnce(client, target, userId, requestId);
      if (said !== "OVERLOADED") return said;
    }
  }

  async function newCoupon(stock: { quantity: bigint } | { codeBook: object }): Promise<string> {
    const { coupon } = await clientOf(0).call(CatalogService.method.createCoupon, {
      coupon: {
        name: "the last one",
        discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
        expireTime: timestampFromMs(Date.now() + 3_600_000),
        ...stock,
      },
    });
    return coupon?.id as string;
  }

  const metricOf = async ({ httpPort }: Replica, name: string) => {
    const metrics = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
    const line = metrics.split("\n").find((one) => one.startsWith(`${name} `));
    return Number(line?.split(" ")[1] ?? 0);
  };
  const batchesOf = (replica: Replica) => metricOf(replica, 'coupon_batch_size_count{queue="issue"}');
  const rowsOf = (replica: Replica) => metricOf(replica, 'coupon_batch_size_sum{queue="issue"}');
  /** Until what the gate can refuse is not sent to Postgres any more. */
  const untilGateKnows = (target: Target, holder: string) =>
    until("the gate knows the coupon", async () => {
      const [replica] = replicas as [Replica];
      const before = await batchesOf(replica);
      expect(await issue(replica.client, target, holder)).toBe("ALREADY_ISSUED");
      return (await batchesOf(replica)) === before;
    });

  const issuedCount = async (couponId: string) =>
    (await sql`SELECT issued_count::int AS count FROM coupons WHERE id = ${couponId}`)[0]?.count;

  test(
    "one unit is left, and a valid call beside many that only Postgres refuses gets it",
    async () => {
      const used = await newCoupon({ quantity: 1_000n });
      const requestIds = Array.from({ length: doomedCount }, () => randomUUID());
      const usedUp = (n: number) => issue(clientOf(n), { case: "couponId", value: used }, `u${n}`, requestIds[n]);
      await Promise.all(requestIds.map((_, n) => usedUp(n)));
      for (let round = 0; round < rounds; round++) {
        const couponId = await newCoupon({ quantity: 2n });
        const target: Target = { case: "couponId", value: couponId };
        await issue(clientOf(0), target, "first");
        await untilGateKnows(target, "first");
        const doomed = (n: number) => issue(clientOf(n), target, `d${n}`, requestIds[n]);
        const before = requestIds.map((_, n) => n).filter((n) => n < 1 + ((5 * round) % doomedCount));
        const calls = before.map(doomed);
        const valid = issue(clientOf(round), target, "valid", randomUUID());
        const after = requestIds.map((_, n) => n).slice(before.length);
        const refused = await Promise.all([...calls, ...after.map(doomed)]);
        expect(`${round}: ${await valid}`).toBe(`${round}: ISSUED`);
        // Who came after the last one was gone may be told that.
        expect(refused.filter((reason) => reason !== "REQUEST_ID_REUSED" && reason !== "SOLD_OUT")).toEqual([]);
        expect(await issuedCount(couponId)).toBe(2);
        expect(await issue(clientOf(round), target, "late")).toBe("SOLD_OUT");
      }
    },
    longMs,
  );

  test(
    "a book has one free code and one that is taken: a crowd for the taken one keeps nobody from the free one",
    async () => {
      for (let round = 0; round < rounds; round++) {
        const couponId = await newCoupon({ codeBook: {} });
        const [taken, free] = [randomUUID().toUpperCase(), randomUUID().toUpperCase()];
        await addCodes(sql, couponId, [{ code: taken }, { code: free }]);
        const code = (value: string): Target => ({ case: "code", value });
        expect(await issue(clientOf(0), code(taken), "first")).toBe("ISSUED");
        const any: Target = { case: "couponId", value: couponId };
        await untilGateKnows(any, "first");
        const wantTaken = (n: number) => issue(clientOf(n), code(taken), `t${n}`);
        const before = 1 + ((5 * round) % byCodeCount);
        const crowd = Array.from({ length: before }, (_, n) => wantTaken(n));
        // By the book or by its own name, in turn.
        const valid = issue(clientOf(round), round % 2 ? any : code(free), "valid");
        crowd.push(...Array.from({ length: byCodeCount - before }, (_, n) => wantTaken(before + n)));
        expect(`${round}: ${await valid}`).toBe(`${round}: ISSUED`);
        expect([...new Set(await Promise.all(crowd))]).toEqual(["CODE_TAKEN"]);
        expect(await issuedCount(couponId)).toBe(2);
        // Nothing is left and nothing is pending: the gate says so, by the book and by the code.
        expect(await issue(clientOf(round), any, "late")).toBe("SOLD_OUT");
        expect(await issue(clientOf(round), code(taken), "late")).toBe("CODE_TAKEN");
      }
    },
    longMs,
  );

  test(
    "while the last unit cannot be decided, a crowd costs Postgres little, and is told to come again",
    async () => {
      const [replica] = replicas as [Replica];
      const couponId = await newCoupon({ quantity: 2n });
      const target: Target = { case: "couponId", value: couponId };
      await issue(replica.client, target, "first");
      await untilGateKnows(target, "first");
      const before = await rowsOf(replica);
      const calls: Promise<string>[] = [];
      const told: string[] = [];
      await sql.begin(async (tx) => {
        await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
        calls.push(issueOnce(replica.client, target, "last"));
        await until("the last unit is reserved, and its caller waits for the coupon", async () => {
          const waiting = await sql`
            SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%issue_user_coupons%'`;
          return waiting.length === 1;
        });
        for (let n = 0; n < crowdCount; n++) {
          const call = issueOnce(replica.client, target, `crowd-${n}`);
          calls.push(call);
          void call.then((said) => told.push(said));
        }
        const isAgain = (said: string) => said === "OVERLOADED";
        await until(
          "those who do not ask Postgres are told to come again",
          () => told.filter(isAgain).length >= crowdCount - maxAsking,
        );
        expect(told).not.toContain("SOLD_OUT");
      });
      const all = await Promise.all(calls);
      // The first one may have waited for longer than a statement may, and another one have got the unit.
      expect(all.filter((said) => said === "ISSUED").length).toBeLessThanOrEqual(1);
      // What was on its way when it became known that the coupon is held is sent once more when it is free.
      expect((await rowsOf(replica)) - before).toBeLessThanOrEqual(2 * (1 + maxAsking));
      await until("the last unit is sold", async () => {
        await issueOnce(replica.client, target, "late");
        return (await issuedCount(couponId)) === 2;
      });
    },
    longMs,
  );
});
