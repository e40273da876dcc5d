import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CodeJob, CodeJobState, CodeTerms } from "../../src/domain/code.js";
import { Refusal, StoreUnavailable } from "../../src/domain/refusal.js";
import { CodeGenerator } from "../../src/jobs/code-generator.js";
import type { GenerateBatch } from "../../src/storage/ports/codes.js";
import type { RequestKey } from "../../src/storage/ports/page.js";
import { PostgresCodeStore } from "../../src/storage/postgres/codes/code-store.js";
import { callContext } from "../support/call-context.js";
import { until } from "../support/until.js";
import { type ClockedDatabase, openClockedDatabase } from "./clocked-database.js";
import { allCodesOf, expectStocked, insertBook, readBook, storedEvents } from "./code-world.js";

const noon = new Date("2026-11-21T12:00:00.000Z");
const farMs = Number.POSITIVE_INFINITY;
const call = callContext(farMs);
const noTerms: CodeTerms = { discount: null, expiresAt: null, maxUses: null, maxHolders: 1 };

let clocked: ClockedDatabase;
let store: PostgresCodeStore;
let forgotten: string[];

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  store = new PostgresCodeStore(clocked.database);
});
afterAll(() => clocked?.close());

function newGenerator(of: Pick<PostgresCodeStore, "addGenerated"> = store): CodeGenerator {
  forgotten = [];
  const failed = (_: string, error: unknown) => expect(error).toBeUndefined();
  return new CodeGenerator(
    of,
    { invalidate: async (couponId) => void forgotten.push(couponId) },
    { info: () => {} },
    { failed },
  );
}

async function begin(
  couponId: string,
  pattern: string,
  count: number,
  { terms = noTerms, request = null as RequestKey | null } = {},
): Promise<CodeJob> {
  const job = await store.beginJob({ couponId, pattern, terms, count, request }, () => null, call);
  if (job instanceof Refusal) throw new Error(job.reason);
  return job;
}

const jobOf = async ({ id }: CodeJob) => (await store.getJob(id, farMs)) as CodeJob;

/** That a job has added what it says, by what is stored. */
async function expectGenerated(job: CodeJob, madeCount: number, failure: string | null = null): Promise<void> {
  const { endedAt, ...now } = await jobOf(job);
  expect(now).toMatchObject({ madeCount, failure });
  expect(endedAt).not.toBeNull();
  expect((await storedEvents(clocked.sql, job.couponId)).filter(([kind]) => kind === "CODES_GENERATED")).toEqual([
    ["CODES_GENERATED", { jobId: job.id, codeCount: madeCount, placeCount: madeCount * job.terms.maxHolders, failure }],
  ]);
  await expectStocked(clocked.sql);
}

const taken = "the pattern has no more codes that are not taken";

describe("a job", () => {
  test("generates exactly what is wanted, to its pattern and with its terms", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const discount = {
      kind: { case: "percentage" as const, basisPoints: 7 },
      maximumAmount: null,
      minimumOrderAmount: null,
    };
    const terms = { discount, expiresAt: new Date(noon.getTime() + 9e9), maxUses: 3, maxHolders: 4 };
    const job = await begin(couponId, "J1-*{6}", 5_003, { terms });
    expect(job).toMatchObject({ madeCount: 0, endedAt: null, failure: null });
    await newGenerator().run();
    await expectGenerated(job, 5_003);
    const [row] = await clocked.sql`
      SELECT count(*)::int AS codes, count(DISTINCT pick_key)::int AS picks FROM codes
      WHERE coupon_id = ${couponId} AND code ~ '^J1-[A-Z0-9]{6}$' AND code_key = replace(code, '-', '')`;
    expect(row).toEqual({ codes: 5_003, picks: 5_003 });
    // By its source all of them are found again, of whichever batch.
    const [found] = await clocked.sql`
      SELECT count(*)::int AS n FROM codes k JOIN code_sources s ON s.id = k.source_id
      WHERE s.id = ${job.id} AND k.id BETWEEN s.first_code_id AND s.last_code_id`;
    expect(found?.n).toBe(5_003);
    expect(await readBook(clocked.sql, couponId)).toEqual({
      ...{ quantity: 20_012, codeTotal: 5_003, revision: 3, issuedCount: 0 },
    });
    const { rows } = await store.list(allCodesOf(couponId), { size: 1, before: null }, farMs);
    expect(rows[0]?.code).toMatchObject(terms);
    expect(forgotten).toContain(couponId);
  });

  test("is worked on by two at once and by others at the same time, and generates neither more nor fewer", async () => {
    const books = [await insertBook(clocked.sql, noon), await insertBook(clocked.sql, noon, { exactCodes: true })];
    const jobs = await Promise.all([
      begin(books[0]!, "J2-*{8}", 12_345),
      begin(books[1]!, "j2#{5}", 40_000),
      begin(books[1]!, "one", 1),
    ]);
    await Promise.all([newGenerator().run(), newGenerator().run(), newGenerator().run()]);
    await until("all have ended", async () => (await Promise.all(jobs.map(jobOf))).every((job) => job.endedAt));
    // Where codes are told apart by case they are found as they were written.
    const odd = await clocked.sql`SELECT code FROM codes WHERE coupon_id = ${books[1]!} AND code_key <> '-' || code`;
    expect(odd).toHaveLength(0);
    expect((await Promise.all(jobs.map(jobOf))).map((job) => [job.madeCount, job.failure])).toEqual([
      [12_345, null],
      [40_000, null],
      [1, null],
    ]);
    await expectStocked(clocked.sql);
    expect(await readBook(clocked.sql, books[1]!)).toMatchObject({ quantity: 40_001, codeTotal: 40_001 });
  });

  test("goes on with another one where a connection was cut off in the middle of a batch", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const job = await begin(couponId, "J3-*{8}", 12_000);
    const dying = newGenerator();
    let working: Promise<void> | undefined;
    await clocked.sql.begin(async (tx) => {
      // Its codes are inserted when it waits for the coupon.
      await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
      working = dying.run();
      working.catch(() => {});
      await until("it was cut off", async () => {
        const [row] = await clocked.sql`
          SELECT count(pg_terminate_backend(pid))::int AS n FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock'`;
        return row?.n === 1;
      });
    });
    await expect(working).rejects.toThrow(StoreUnavailable);
    expect(await jobOf(job)).toMatchObject({ madeCount: 0, endedAt: null });
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 0, codeTotal: 0, revision: 1 });
    expect(await clocked.sql`SELECT FROM codes WHERE coupon_id = ${couponId}`).toHaveLength(0);
    await newGenerator().run();
    await expectGenerated(job, 12_000);
  });

  test("adds nothing of a batch that fails after the codes were inserted", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const job = await begin(couponId, "J4-*{8}", 100);
    await clocked.sql.begin(async (tx) => {
      // It waits for the coupon's lock, for longer than it may.
      await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
      await expect(newGenerator().run()).rejects.toThrow(StoreUnavailable);
    });
    expect(await clocked.sql`SELECT FROM codes WHERE coupon_id = ${couponId}`).toHaveLength(0);
    await newGenerator().run();
    await expectGenerated(job, 100);
  });

  test("that wants all that a pattern has gets all", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const job = await begin(couponId, "J5-#{2}[A-C]", 300);
    await newGenerator().run();
    await expectGenerated(job, 300);
  });

  test.for([
    [97, null],
    [98, taken],
  ] as const)("of 100 codes, three of which exist, that wants %i: %s", async ([count, failure]) => {
    const couponId = await insertBook(clocked.sql, noon);
    const name = `J6${count}-`;
    await clocked.sql`
      INSERT INTO codes (coupon_id, code, code_key, pick_key, created_at)
      SELECT ${randomUUID()}, c, c, 1, ${noon} FROM unnest(array['07', '50', '99']) c`;
    await clocked.sql`UPDATE codes SET code_key = ${`J6${count}`} || code WHERE length(code) = 2 AND code_key = code`;
    const job = await begin(couponId, `${name}##`, count);
    await newGenerator().run();
    await expectGenerated(job, 97, failure);
  });

  test.for([
    [1, null],
    [2, taken],
  ] as const)("finds the only free code of 10,000; wanted are %i: %s", async ([count, failure]) => {
    const couponId = await insertBook(clocked.sql, noon);
    await clocked.sql`
      INSERT INTO codes (coupon_id, code, code_key, pick_key, created_at)
      SELECT ${randomUUID()}, 'x', ${`J7${count}`} || lpad(n::text, 4, '0'), 1, ${noon}
      FROM generate_series(0, 9999) n WHERE n <> 4321`;
    const job = await begin(couponId, `J7${count}-#{4}`, count);
    await newGenerator().run();
    await expectGenerated(job, 1, failure);
    const { rows } = await store.list(allCodesOf(couponId), { size: 10, before: null }, farMs);
    expect(rows.map(({ code }) => code.code)).toEqual([`J7${count}-4321`]);
  });

  test("ends when a pattern that is too large to be gone through yields nothing any more", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    await clocked.sql.unsafe(`
      CREATE FUNCTION no_j8() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER no_j8 BEFORE INSERT ON codes FOR EACH ROW WHEN (NEW.code LIKE 'J8-%') EXECUTE FUNCTION no_j8()`);
    const job = await begin(couponId, "J8-*{8}", 10);
    await newGenerator().run();
    await expectGenerated(job, 0, taken);
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 0, codeTotal: 0, revision: 1 });
  });

  test("ends when its coupon is deleted, and keeps what was generated", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const job = await begin(couponId, "J9-*{8}", 9_000);
    let batches = 0;
    const generator = newGenerator({
      addGenerated: (generate: GenerateBatch) =>
        store.addGenerated(async (...args) => {
          batches += 1;
          // While a batch is being generated, which is then undone.
          if (batches === 2) await clocked.sql`UPDATE coupons SET deleted_at = ${noon} WHERE id = ${couponId}`;
          return await generate(...args);
        }),
    });
    await generator.run();
    await expectGenerated(job, 5_000, "the coupon was deleted");
  });

  test("is begun once for one request id, and refused for what is no code book", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const request = { method: "GenerateCodes", requestId: randomUUID(), inputHash: new Uint8Array([1]) };
    const jobs = await Promise.all([1, 2, 3].map(() => begin(couponId, "J10-*{8}", 10, { request })));
    expect(new Set(jobs.map((job) => job.id)).size).toBe(1);
    await newGenerator().run();
    expect(await begin(couponId, "J10-*{8}", 10, { request })).toMatchObject({ id: jobs[0]!.id, madeCount: 10 });
    const other = { ...request, inputHash: new Uint8Array([2]) };
    await expect(begin(couponId, "J10-*{8}", 10, { request: other })).rejects.toThrow("REQUEST_ID_REUSED");
    await expect(begin(randomUUID(), "#", 1)).rejects.toThrow("COUPON_NOT_FOUND");
    await expect(begin(await insertBook(clocked.sql, noon, { deletedAt: noon }), "#", 1)).rejects.toThrow(
      "COUPON_NOT_FOUND",
    );
    await expect(begin(await insertBook(clocked.sql, noon, { isCodeBook: false }), "#", 1)).rejects.toThrow(
      "NOT_A_CODE_BOOK",
    );
  });

  test("is begun at once by the generator that is told, and left to others by one that is closed", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const job = await begin(couponId, "J11-*{8}", 20_000);
    const generator = newGenerator();
    generator.kick();
    await until("it has begun", async () => (await jobOf(job)).madeCount > 0);
    await generator.stop();
    const left = await jobOf(job);
    expect(left.madeCount).toBeLessThan(20_000);
    expect(left.endedAt).toBeNull();
    await newGenerator().run();
    await expectGenerated(job, 20_000);
    expect(forgotten.length).toBeLessThanOrEqual(3);
  });

  test("that is cancelled ends after the batch under way; what was made stays, and can be deleted", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const job = await begin(couponId, "J12-*{8}", 100_000);
    let cancelling: Promise<CodeJob | Refusal> | undefined;
    let batches = 0;
    const generator = newGenerator({
      addGenerated: (generate: GenerateBatch) =>
        store.addGenerated(async (...args) => {
          batches += 1;
          // The batch is generated, and comes too late.
          if (batches === 2) {
            cancelling = store.cancelJob(job.id, null, call);
            await cancelling;
          }
          return await generate(...args);
        }),
    });
    await generator.run();
    const cancelled = await cancelling;
    expect(cancelled).toMatchObject({ id: job.id, madeCount: 5_000, failure: "it was cancelled", endedAt: noon });
    await expectGenerated(job, 5_000, "it was cancelled");
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 5_000 });
    // Again, nothing changes; nor does a job that has ended by itself.
    expect(await store.cancelJob(job.id, null, call)).toEqual(cancelled);
    await newGenerator().run();
    await expectGenerated(job, 5_000, "it was cancelled");
    expect(await store.cancelJob(randomUUID(), null, call)).toMatchObject({ reason: "CODE_JOB_NOT_FOUND" });

    const more = await begin(couponId, "J13-*{8}", 30);
    await newGenerator().run();
    expect(await store.cancelJob(more.id, null, call)).toMatchObject({ madeCount: 30, failure: null });
    const which = { source: { kind: "job" as const, id: job.id }, after: null };
    expect(await store.delete({ target: { couponId }, which, request: null }, call)).toMatchObject({
      ...{ deletedCount: 5_000, takenCount: 0 },
    });
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: 30 });
  });

  test("that is cancelled while a batch is being added has that batch, too", async () => {
    const couponId = await insertBook(clocked.sql, noon);
    const job = await begin(couponId, "J14-*{8}", 100_000);
    let cancelling: Promise<CodeJob | Refusal> | undefined;
    let working: Promise<void> | undefined;
    const waiting = (count: number) =>
      until(`${count} wait`, async () => {
        const [row] = await clocked.sql`
          SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
        return row?.n === count;
      });
    await clocked.sql.begin(async (tx) => {
      await tx`SELECT FROM coupons WHERE id = ${couponId} FOR UPDATE`;
      working = newGenerator().run();
      await waiting(1);
      cancelling = store.cancelJob(job.id, null, call);
      await waiting(2);
    });
    const cancelled = (await cancelling) as CodeJob;
    await working;
    // Who waits for a row may have to let the one pass who comes next.
    expect(cancelled.madeCount).toBeGreaterThan(0);
    await expectGenerated(job, cancelled.madeCount, "it was cancelled");
    expect(await readBook(clocked.sql, couponId)).toMatchObject({ quantity: cancelled.madeCount });
  });
});

describe("a list of jobs", () => {
  test("has those of a coupon or all, in some states only, page by page, the newest first", async () => {
    const [mine, other] = [await insertBook(clocked.sql, noon), await insertBook(clocked.sql, noon)];
    const jobs: CodeJob[] = [];
    for (let n = 0; n < 5; n++) jobs.push(await begin(n === 2 ? other : mine, `L${n}-#{5}`, 1));
    const cancelledJobs = [jobs[1]!, jobs[4]!];
    for (const { id } of cancelledJobs) await store.cancelJob(id, null, call);
    const list = async (
      couponId: string | null,
      states: CodeJobState[] | null,
      size: number,
      before: string | null = null,
    ) => {
      const { rows, next } = await store.listJobs({ couponId, states }, { size, before }, farMs);
      return { ids: rows.map(({ id }) => id), next };
    };
    // Of those of one millisecond any may be the newest.
    const newest = (of: readonly CodeJob[]) =>
      of
        .map(({ id }) => id)
        .sort()
        .reverse();
    const ids = newest([4, 3, 1, 0].map((n) => jobs[n]!));
    const ended = newest(cancelledJobs);
    const running = newest([jobs[0]!, jobs[3]!]);
    expect(await list(mine, null, 10)).toEqual({ ids, next: null });
    expect(await list(mine, null, 4)).toEqual({ ids, next: null });
    expect(await list(mine, null, 3)).toEqual({ ids: ids.slice(0, 3), next: ids[2] });
    expect(await list(mine, null, 3, ids[2])).toEqual({ ids: ids.slice(3), next: null });
    expect(await list(mine, ["CANCELLED"], 1)).toEqual({ ids: [ended[0]], next: ended[0] });
    expect(await list(mine, ["CANCELLED"], 1, ended[0])).toEqual({ ids: [ended[1]], next: null });
    expect(await list(mine, ["RUNNING"], 10)).toEqual({ ids: running, next: null });
    const all = (await list(null, null, 1_000)).ids;
    expect(all).toEqual(expect.arrayContaining(newest(jobs)));
    expect(all).toEqual([...all].sort().reverse());
    expect(await list(randomUUID(), null, 5)).toEqual({ ids: [], next: null });
    // Of many that are not wanted only so many are looked at for one page.
    await clocked.sql`
      INSERT INTO code_jobs (id, coupon_id, pattern, terms, count, made_count, created_at, ended_at)
      SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, ${other}, '#', '{"expiresAt": null, "maxHolders": 1}', 1, 1, ${noon}, ${noon}
      FROM generate_series(1, 1200) n`;
    const short = await list(other, ["FAILED"], 5);
    expect(short).toEqual({ ids: [], next: expect.any(String) });
    expect(await list(other, ["FAILED"], 5, short.next)).toEqual({ ids: [], next: null });
    await newGenerator().run();
    expect((await list(mine, ["DONE"], 10)).ids).toEqual(running);
  });
});
