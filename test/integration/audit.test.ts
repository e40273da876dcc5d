import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { CouponDefinition } from "../../src/domain/coupon.js";
import { anybody } from "../../src/domain/principal.js";
import { Refusal, StoreUnavailable } from "../../src/domain/refusal.js";
import { RefusalRecorder } from "../../src/jobs/refusal-recorder.js";
import { newId, timeOf } from "../../src/platform/new-id.js";
import type { AuditFilter, AuditRecord, RefusedCall } from "../../src/storage/ports/audit.js";
import { PostgresAuditStore } from "../../src/storage/postgres/audit/audit-store.js";
import { PostgresCodeStore } from "../../src/storage/postgres/codes/code-store.js";
import { PostgresCouponStore } from "../../src/storage/postgres/coupons/coupon-store.js";
import { callContext } from "../support/call-context.js";
import { type ClockedDatabase, openClockedDatabase } from "./clocked-database.js";
import { whileWaiting } from "./waiting.js";

/** What administrators do is on record, and stays there. */
const noon = new Date("2030-06-01T12:00:00.000Z");
const farMs = Number.POSITIVE_INFINITY;
const any: AuditFilter = { principal: null, method: null, targetId: null, from: null, until: null };
const definition: CouponDefinition = {
  name: "Ten percent",
  description: "",
  category: "",
  discount: { kind: { case: "percentage", basisPoints: 1_000 }, maximumAmount: null, minimumOrderAmount: null },
  startsAt: noon,
  expiresAt: new Date("2031-01-01T00:00:00.000Z"),
  quantity: 10,
  validityAfterIssueMs: null,
  maxPerUser: 1,
  usageCap: null,
  stackable: false,
  maxUses: 1,
  lockDurationMs: 300_000,
  claimWindowMs: null,
  type: null,
  throttle: null,
  quota: null,
  codeBook: null,
  labels: null,
};

let clocked: ClockedDatabase;
let coupons: PostgresCouponStore;
let codes: PostgresCodeStore;
let audit: PostgresAuditStore;
/** Whose calls a test looks for. */
let caller: string;
beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  coupons = new PostgresCouponStore(clocked.database);
  codes = new PostgresCodeStore(clocked.database);
  audit = new PostgresAuditStore(clocked.database);
});
afterAll(() => clocked?.close());
beforeEach(() => {
  caller = `key:${randomUUID()}`;
});

const calling = (method: string, callerRequestId = "") =>
  callContext(farMs, { method, callerRequestId, requestId: "x-1", principal: { ...anybody, id: caller } });
const ofCaller = async () => (await audit.list({ ...any, principal: caller }, { size: 50, before: null }, farMs)).rows;
const requestOf = (method: string, requestId: string) => ({ method, requestId, inputHash: Buffer.from(requestId) });
const refused = (method: string, at: Date, targetId: string | null = null): RefusedCall => {
  return { call: calling(method), reason: "PERMISSION_DENIED", targetId, at, id: newId(at.getTime()) };
};

async function create(changed: Partial<CouponDefinition> = {}, call = calling("CreateCoupon")): Promise<string> {
  const created = await coupons.create(() => ({ ...definition, ...changed }), null, call);
  if (created instanceof Refusal) throw new Error(created.reason);
  return created.value.id;
}

describe("a change and its record", () => {
  const edit = (id: string, act: () => Promise<void>, request: ReturnType<typeof requestOf> | null = null) =>
    coupons.change(
      { id, revision: 0, kind: "COUPON_UPDATED", request },
      ({ name }) => ({ name: `${name}!` }),
      act,
      calling("UpdateCoupon", "mine"),
    );

  test("are one: without the record nothing is changed, and without the change nothing is on record", async () => {
    const id = await create();
    await clocked.sql`ALTER TABLE audit_records ADD CONSTRAINT no_room CHECK (method <> 'UpdateCoupon') NOT VALID`;
    await expect(edit(id, async () => {})).rejects.toThrow();
    await clocked.sql`ALTER TABLE audit_records DROP CONSTRAINT no_room`;
    await expect(edit(id, () => Promise.reject(new Error("too late")))).rejects.toThrow("too late");
    // Not even a COMMIT that fails leaves one of the two.
    await clocked.sql.unsafe(`
      CREATE FUNCTION fail_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'at the end'; END $$;
      CREATE CONSTRAINT TRIGGER fails_late AFTER UPDATE ON coupons DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION fail_late()`);
    await expect(edit(id, async () => {})).rejects.toThrow("at the end");
    await clocked.sql`DROP TRIGGER fails_late ON coupons`;
    expect((await coupons.get(id, farMs))?.value).toMatchObject({ name: definition.name, revision: 1 });
    expect((await clocked.sql`SELECT FROM events WHERE coupon_id = ${id}`).length).toBe(1);
    expect((await ofCaller()).map(({ method }) => method)).toEqual(["CreateCoupon"]);
  });

  test("follow each other when two are made at once: neither is lost, and the second begins with what the first has left", async () => {
    const id = await create();
    const twice = [1, 2].map(() => () => edit(id, async () => {}));
    for (const { status } of await whileWaiting(clocked.sql, id, twice, async () => {}))
      expect(status).toBe("fulfilled");
    expect((await coupons.get(id, farMs))?.value).toMatchObject({ name: `${definition.name}!!`, revision: 3 });
    const revisions = (await ofCaller()).map(
      ({ before }) => (before as { coupon: { revision: number } } | null)?.coupon.revision,
    );
    expect(revisions.sort()).toEqual([1, 2, undefined]);
  });

  test("say who, when, by which request, and what it was before and after; a repetition is no second change", async () => {
    const id = await create({ description: "d".repeat(3_000) });
    const twice = [requestOf("UpdateCoupon", id), requestOf("UpdateCoupon", id)];
    for (const request of twice) expect(await edit(id, async () => {}, request)).not.toBeInstanceOf(Refusal);
    expect(await edit(id, async () => {}, { ...twice[0]!, inputHash: Buffer.from("other") })).toBeInstanceOf(Refusal);
    expect(await edit(randomUUID(), async () => {})).toBeInstanceOf(Refusal);
    const found = await ofCaller();
    const [changed, created] = ["UpdateCoupon", "CreateCoupon"].map((name) =>
      found.find(({ method }) => method === name),
    );
    expect(found.length).toBe(2);
    const shared = { principal: caller, requestId: "x-1", outcome: "OK", targetId: id, happenedAt: noon };
    const [before, after] = [
      { revision: 1, name: "Ten percent" },
      { revision: 2, name: "Ten percent!" },
    ];
    expect(changed).toMatchObject({ ...shared, method: "UpdateCoupon", callerRequestId: "mine" });
    expect(changed).toMatchObject({ before: { coupon: before }, after: { coupon: after } });
    expect(created).toMatchObject({ ...shared, method: "CreateCoupon", before: null, after: { coupon: before } });
    // The whole description is in the event.
    expect((created!.after as { coupon: { description: string } }).coupon.description).toBe(`${"d".repeat(1_000)}…`);
  });

  test("of many coupons are one record, with some of their ids", async () => {
    const many = [...Array(150)].map(() => definition);
    const bad = new Refusal("INVALID_FIELD");
    const request = requestOf("BatchCreateCoupons", randomUUID());
    for (let n = 0; n < 2; n++) {
      await coupons.createMany(async () => [...many, bad], request, calling("BatchCreateCoupons"));
    }
    const [one, ...others] = await ofCaller();
    expect(others).toEqual([]);
    expect(one).toMatchObject({ targetId: null, before: null, after: { createdCount: 150, refusedCount: 1 } });
    const { couponIds } = one!.after as { couponIds: string[] };
    expect(new Set(couponIds).size).toBe(100);
    expect((await clocked.sql`SELECT FROM coupons WHERE id = ANY (${couponIds}::uuid[])`).length).toBe(100);
  });

  test("of codes have counts and ids, and never a code", async () => {
    const couponId = await create({ codeBook: { exactMatch: false }, quantity: 0 });
    const terms = { discount: null, expiresAt: null, maxUses: null, maxHolders: 1 };
    const good = ["SECRET-1", "SECRET-2"].map((code, n) => {
      return { line: n + 1, code, key: code.replace("-", ""), pickKey: n, terms };
    });
    const rejected = [{ line: 3, message: "SECRET-3 is wrong" }];
    const target = { couponId };
    const upload = () =>
      codes.upload({ target, request: null }, async () => ({ good, rejected }), calling("UploadCodes"));
    const first = await upload();
    await upload();
    const wanted = { couponId, pattern: "SECRET-4", terms, count: 1, request: null };
    const job = await codes.beginJob(wanted, () => null, calling("GenerateCodes"));
    const { id: jobId } = job as { id: string };
    for (let n = 0; n < 2; n++) await codes.cancelJob(jobId, null, calling("CancelCodeJob"));
    const which = { codes: ["SECRET-1", "SECRET-9"] };
    await codes.delete({ target, which, request: null }, calling("DeleteCodes"));
    const found = await ofCaller();
    // On a clock that stands still they are in no order.
    expect(found.map(({ method, targetId }) => `${method} ${targetId}`).sort()).toEqual([
      `CancelCodeJob ${jobId}`,
      `CancelCodeJob ${jobId}`,
      `CreateCoupon ${couponId}`,
      `DeleteCodes ${couponId}`,
      `GenerateCodes ${couponId}`,
      `UploadCodes ${couponId}`,
      `UploadCodes ${couponId}`,
    ]);
    const afterOf = (method: string) => found.filter((one) => one.method === method).map((one) => one.after);
    const { uploadId } = first as { uploadId: string };
    expect(afterOf("UploadCodes")).toEqual(
      expect.arrayContaining([
        { uploadId, addedCount: 2, duplicateCount: 0, invalidCount: 1 },
        { addedCount: 0, duplicateCount: 2, invalidCount: 1 },
      ]),
    );
    expect(afterOf("GenerateCodes")).toEqual([{ jobId, count: 1 }]);
    expect(afterOf("CancelCodeJob")).toEqual(Array(2).fill({ couponId, state: "CANCELLED", madeCount: 0 }));
    expect(afterOf("DeleteCodes")).toEqual([{ namedCount: 2, deletedCount: 1, takenCount: 0 }]);
    expect(JSON.stringify(found)).not.toContain("SECRET");
  });

  test("of the pool of a type say that it was made, whatever becomes of the upload", async () => {
    const check = () => Promise.reject(new Error("nothing came"));
    const upload = codes.upload({ target: { type: "MEGADEAL" }, request: null }, check, calling("UploadCodes"));
    await expect(upload).rejects.toThrow("nothing came");
    expect(await ofCaller()).toMatchObject([
      { method: "UploadCodes", before: null, after: { coupon: { isTypePool: true } } },
    ]);
  });
});

describe("what is on record", () => {
  test("cannot be changed, deleted or emptied, nor in any of its partitions", async () => {
    const { sql } = clocked;
    await create();
    const at = new Date();
    await audit.recordRefused([refused("PauseCoupon", at)]);
    const month = `audit_records_${at.toISOString().slice(0, 7).replace("-", "_")}`;
    for (const table of ["audit_records", "audit_records_rest", month]) {
      expect((await sql`SELECT FROM ${sql(table)}`).length).toBeGreaterThan(0);
      await expect(sql`UPDATE ${sql(table)} SET principal = 'nobody'`).rejects.toThrow("stays as it is");
      await expect(sql`DELETE FROM ${sql(table)}`).rejects.toThrow("stays as it is");
      await expect(sql`TRUNCATE ${sql(table)}`).rejects.toThrow("stays as it is");
    }
  });

  test("is kept by months, for as many days as it is told, and what had no month moves to its own", async () => {
    const { sql } = clocked;
    const today = new Date();
    /** The beginning of a month to come, and so many days later. */
    const month = (n: number, days = 0) =>
      new Date(Date.UTC(today.getUTCFullYear(), today.getUTCMonth() + n) + days * 86_400_000);
    const tableOf = (n: number) => `audit_records_${month(n).toISOString().slice(0, 7).replace("-", "_")}`;
    const keep = async (at: Date, days: number) =>
      (await sql`SELECT made, dropped FROM keep_months('audit_records', ${at}, ${days})`)[0];
    const justBefore = (at: Date) => new Date(at.getTime() - 1);
    const [old, next] = [refused("PauseCoupon", justBefore(month(12))), refused("PauseCoupon", month(12))];
    await audit.recordRefused([old, next]);
    // Kept for ever, it stays also where it has no month; and what moves it leaves it as safe as before.
    const ancient = refused("PauseCoupon", new Date("2001-01-01"));
    await audit.recordRefused([ancient]);
    expect((await keep(month(11, 14), 0))?.dropped).toEqual([]);
    await expect(sql`DELETE FROM audit_records_rest`).rejects.toThrow("stays as it is");
    const within = async (table: string) =>
      (await sql`SELECT id FROM ${sql(table)} WHERE principal = ${caller}`).map(({ id }) => id);
    const found = await Promise.all([tableOf(11), tableOf(12), "audit_records_rest"].map(within));
    expect(found).toEqual([[old.id], [next.id], [ancient.id]]);
    expect(await keep(month(11, 14), 0)).toEqual({ made: 0, dropped: [] });
    // A month goes when its last moment is sixty days ago.
    expect((await keep(justBefore(month(12, 60)), 60))?.dropped.at(-1)).toBe(tableOf(10));
    expect((await keep(month(12, 60), 60))?.dropped).toEqual([tableOf(11)]);
    expect((await ofCaller()).map(({ id }) => id)).toEqual([next.id]);
    await expect(sql`TRUNCATE ${sql(tableOf(12))}`).rejects.toThrow("stays as it is");
    // What is older than any month goes, too, and what stays there is as safe as before.
    await audit.recordRefused([refused("PauseCoupon", new Date("2001-01-01")), refused("PauseCoupon", month(500))]);
    await keep(month(12, 60), 60);
    expect((await ofCaller()).length).toBe(2);
    await expect(sql`DELETE FROM audit_records_rest`).rejects.toThrow("stays as it is");
  });

  test("is dropped only by who may delete it; months are made by who may add", async () => {
    const { sql } = clocked;
    const server = `server_${randomUUID().replaceAll("-", "")}`;
    await sql.unsafe(`CREATE ROLE ${server} LOGIN; GRANT SELECT, INSERT ON audit_records TO ${server}`);
    const ask = (days: number) =>
      sql.begin(async (tx) => {
        await tx.unsafe(`SET LOCAL SESSION AUTHORIZATION ${server}`);
        return await tx`SELECT made FROM keep_months('audit_records', now(), ${days})`;
      });
    await expect(ask(30)).rejects.toThrow("to delete them");
    expect((await ask(0)).length).toBe(1);
    await sql.unsafe(`DROP OWNED BY ${server}; DROP ROLE ${server}`);
  });
});

test("a list is of what meets all conditions, page by page, and looks through only so many for one page", async () => {
  const from = new Date("2035-01-01T00:00:00.000Z");
  const target = randomUUID();
  const calls = [...Array(30)].map((_, n) =>
    refused(n % 3 === 0 ? "PauseCoupon" : "DeleteCoupon", new Date(from.getTime() + n), n % 2 === 0 ? target : null),
  );
  await audit.recordRefused(calls);
  // Told twice, it is there once.
  await audit.recordRefused(calls.slice(0, 3));
  const newest = calls.map(({ id }) => id).reverse();
  const store = new PostgresAuditStore(clocked.database, 4);
  const all = async (filter: Partial<AuditFilter>, size = 7) => {
    const ids: string[] = [];
    let pages = 0;
    for (let before: string | null = null, isFirst = true; isFirst || before; isFirst = false) {
      const page: { rows: readonly AuditRecord[]; next: string | null } = await store.list(
        { ...any, principal: caller, ...filter },
        { size, before },
        farMs,
      );
      expect(page.rows.length).toBeLessThanOrEqual(size);
      ids.push(...page.rows.map(({ id }) => id));
      before = page.next;
      pages += 1;
    }
    return { ids, pages };
  };
  const where = (wanted: (n: number) => boolean) => newest.filter((_, index) => wanted(29 - index));
  expect(await all({})).toEqual({ ids: newest, pages: 5 });
  expect((await all({ method: "PauseCoupon" })).ids).toEqual(where((n) => n % 3 === 0));
  expect((await all({ targetId: target })).ids).toEqual(where((n) => n % 2 === 0));
  const both = await all({ targetId: target, method: "PauseCoupon" });
  expect(both).toEqual({ ids: where((n) => n % 6 === 0), pages: 4 });
  const at = (n: number) => new Date(from.getTime() + n);
  expect((await all({ from: at(5), until: at(9) })).ids).toEqual(where((n) => n >= 5 && n < 9));
  expect((await all({ principal: null, from: at(29), until: at(30) })).ids).toEqual(newest.slice(0, 1));
  expect((await all({ method: "GetCoupon" })).ids).toEqual([]);
});

test("refusals wait for Postgres, as many as there is room for, and are counted when they are dropped", async () => {
  let isAway = true;
  const dropped: number[] = [];
  const failed: unknown[] = [];
  const recorder = new RefusalRecorder({
    store: {
      recordRefused: (calls) => (isAway ? Promise.reject(new StoreUnavailable("away")) : audit.recordRefused(calls)),
    },
    clock: { nowMs: () => noon.getTime() },
    failures: { failed: (...of) => void failed.push(of), succeeded: () => {} },
    onDropped: (count) => void dropped.push(count),
    maxWaiting: 3,
  });
  const add = () => recorder.add({ call: calling("PauseCoupon"), reason: "PERMISSION_DENIED", targetId: null });
  for (let n = 0; n < 5; n++) add();
  await expect(recorder.run()).rejects.toThrow("away");
  expect([dropped, failed.length]).toEqual([[1, 1], 2]);
  isAway = false;
  await recorder.run();
  expect((await ofCaller()).map(({ outcome }) => outcome)).toEqual(Array(3).fill("PERMISSION_DENIED"));
  // At the end what is left is written, or counted.
  add();
  await recorder.stop();
  expect((await ofCaller()).length).toBe(4);
  isAway = true;
  add();
  await recorder.stop();
  expect(dropped).toEqual([1, 1, 1]);
});

test("a refusal's id is of the time that it is on record with, by which it is found", async () => {
  let nowMs = noon.getTime();
  const written: RefusedCall[] = [];
  const recorder = new RefusalRecorder({
    store: { recordRefused: async (calls) => void written.push(...calls) },
    clock: { nowMs: () => nowMs++ },
    failures: { failed: () => {}, succeeded: () => {} },
    onDropped: () => {},
  });
  recorder.add({ call: calling("PauseCoupon"), reason: "PERMISSION_DENIED", targetId: null });
  await recorder.run();
  expect(written.map(({ id }) => timeOf(id))).toEqual(written.map(({ at }) => at.getTime()));
  expect(written.length).toBe(1);
});

test("a refusal that Postgres does not take is dropped alone, and counted", async () => {
  const dropped: number[] = [];
  const recorder = new RefusalRecorder({
    store: audit,
    clock: { nowMs: () => noon.getTime() },
    failures: { failed: () => {}, succeeded: () => {} },
    onDropped: (count) => void dropped.push(count),
  });
  const call = calling("PauseCoupon");
  const before = (await ofCaller()).length;
  for (let n = 0; n < 7; n++) {
    const principal = n === 4 ? { ...call.principal, id: "jwt:issuer#a\0b" } : call.principal;
    recorder.add({ call: { ...call, principal }, reason: "PERMISSION_DENIED", targetId: null });
  }
  await recorder.run();
  expect([(await ofCaller()).length - before, dropped]).toEqual([6, [1]]);
});

test("who is refused the same again and again does not fill the table, and hides nothing else", async () => {
  let nowMs = noon.getTime();
  const recorded: RefusedCall[] = [];
  let dropped = 0;
  const recorder = new RefusalRecorder({
    store: { recordRefused: async (calls) => void recorded.push(...calls) },
    clock: { nowMs: () => nowMs },
    failures: { failed: () => {}, succeeded: () => {} },
    onDropped: (count) => {
      dropped += count;
    },
  });
  // An end user is one, however many tokens they have.
  const refuse = (method: string, session: number, userId = "eve") => {
    const principal = { id: `jwt:issuer#${session}`, scopes: anybody.scopes, userId };
    recorder.add({ call: { ...calling(method), principal }, reason: "PERMISSION_DENIED", targetId: null });
  };
  for (let n = 0; n < 1_000; n++) refuse("PauseCoupon", n);
  refuse("CreateKey", 1_000);
  refuse("PauseCoupon", 1_001, "ada");
  await recorder.run();
  const calls = recorded.map(({ call }) => `${call.principal.userId} ${call.method}`);
  expect(calls).toEqual([...Array(100).fill("eve PauseCoupon"), "eve CreateKey", "ada PauseCoupon"]);
  expect(dropped).toBe(900);
  nowMs += 60_000;
  refuse("PauseCoupon", 1_002);
  await recorder.run();
  expect(recorded.length).toBe(103);
});
