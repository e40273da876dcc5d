import { readFileSync } from "node:fs";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Sql } from "postgres";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { type CodeJob, CodeJobState } from "../../gen/coupon/v1/code_pb.js";
import type { ReplicaProcess } from "../support/replica.js";
import { twoProcesses } from "../support/service.js";
import { until } from "../support/until.js";

const scaled = process.env.FAULT_SCALE === "1";
const count = scaled ? 1_000_000 : 60_000;
const limitMs = scaled ? 400_000 : 50_000;

let sql: Sql;
let survivor: ReplicaProcess;
let victim: ReplicaProcess;

beforeEach(async () => {
  ({
    sql,
    replicas: [survivor, victim],
  } = await twoProcesses(onTestFinished));
});

async function readJob(jobId: string): Promise<CodeJob> {
  return (await survivor.client.call(CatalogService.method.getCodeJob, { jobId })).job as CodeJob;
}

async function newBook(): Promise<string> {
  const { coupon } = await survivor.client.call(CatalogService.method.createCoupon, {
    coupon: {
      name: "A book",
      discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
      expireTime: timestampFromMs(Date.now() + 3_600_000),
      codeBook: {},
    },
  });
  return coupon!.id;
}

function memoryMiB({ process: { pid } }: ReplicaProcess): number {
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024);
}

test.for([
  ["random codes", "RIDE-*{4}-*{4}"],
  ["nearly all of a pattern", scaled ? "N#{6}" : "N[0-5]#{4}"],
] as const)(
  "the replica that makes %s is killed half-way: the job ends on the other with exactly what was wanted",
  { timeout: limitMs + 30_000 },
  async ([, pattern]) => {
    const couponId = await newBook();
    const startedMs = Date.now();
    const { job } = await victim.client.call(CatalogService.method.generateCodes, { couponId, pattern, count });
    const jobId = job!.id;
    expect(job).toMatchObject({ couponId, pattern, count, state: CodeJobState.RUNNING });
    await until("half of it is made", async () => (await readJob(jobId)).madeCount >= count / 2, limitMs);
    const halfMs = Date.now() - startedMs;
    // Codes of the other replica are not taken for those of the victim: it has made nearly all so far.
    const victimMiB = memoryMiB(victim);
    victim.process.kill("SIGKILL");
    const killedAt = (await readJob(jobId)).madeCount;
    expect(killedAt).toBeLessThan(count);
    const done = await until(
      "the job has ended",
      async () => {
        const now = await readJob(jobId);
        return now.state !== CodeJobState.RUNNING && now;
      },
      limitMs,
    );
    console.log(
      `${count} codes of ${pattern}: ${Date.now() - startedMs} ms, half of it after ${halfMs} ms; memory of the one that was ` +
        `killed at ${killedAt}: ${victimMiB} MiB, of the other: ${memoryMiB(survivor)} MiB`,
    );
    expect(done).toMatchObject({ state: CodeJobState.DONE, madeCount: count, failure: "" });
    const [stored] = await sql`
      SELECT count(*)::int AS codes, count(DISTINCT code_key)::int AS keys, sum(max_holders)::int AS seats FROM codes`;
    expect(stored).toEqual({ codes: count, keys: count, seats: count });
    const [coupon] = await sql`SELECT quantity::int, code_total::int AS total FROM coupons WHERE id = ${couponId}`;
    expect(coupon).toEqual({ quantity: count, total: count });
    const events = await sql`SELECT detail FROM events WHERE coupon_id = ${couponId} AND kind = 'CODES_GENERATED'`;
    expect(events).toEqual([{ detail: { jobId, codeCount: count, placeCount: count, failure: null } }]);
  },
);
