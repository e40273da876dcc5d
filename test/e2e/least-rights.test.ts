import { randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { freePort } from "../../embedded/free-port.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CodeJobState } from "../../gen/coupon/v1/code_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { MonthKeeper } from "../../src/jobs/month-keeper.js";
import { Purger } from "../../src/jobs/purger.js";
import { PostgresAuditStore } from "../../src/storage/postgres/audit/audit-store.js";
import { openDatabase } from "../../src/storage/postgres/database.js";
import { PostgresEventStore } from "../../src/storage/postgres/events/event-store.js";
import { migrate } from "../../src/storage/postgres/migrating/migrate.js";
import { searchPath } from "../../src/storage/postgres/migrating/release-functions.js";
import { PostgresPurgeStore } from "../../src/storage/postgres/purge/purge-store.js";
import { adminPassword, dataServerLines, RedisProcesses, redisUserLine } from "../support/redis-processes.js";
import { runService, startReplica } from "../support/replica.js";
import { databaseWithRoles, password, withSql } from "../support/rights.js";
import { until } from "../support/until.js";
import { cancel, lockOne, quote, unlock, useOne } from "./checkout.js";
import { createSample, issue, issued, sampleCoupon } from "./samples.js";

/** A replica that may do no more than it needs, in Postgres and in Redis, and has its secrets from files. */

const name = `rights_${randomUUID().replaceAll("-", "")}`;
const redisUser = "shop";
const atEnd = (act: () => Promise<void>) => afterAll(act);
const folder = await mkdtemp(join(tmpdir(), "coupon-secrets-"));
atEnd(() => rm(folder, { recursive: true }));

const database = await databaseWithRoles(atEnd, name);
await database.makeRoles();
await migrate(database.migrateUrl);

const processes = await RedisProcesses.open();
atEnd(() => processes.close());
const port = await freePort();
await processes.write("redis.conf", [
  ...dataServerLines(port).filter((line) => !line.startsWith("user ")),
  redisUserLine(redisUser, password, [`${name}:`]),
]);
await processes.start("redis", port, adminPassword);
const asAdmin = (...command: [string, ...(string | number)[]]) => processes.ask(port, adminPassword, ...command);

async function inFile(secret: string): Promise<string> {
  const path = join(folder, randomUUID());
  await writeFile(path, `${secret}\n`, { mode: 0o400 });
  return path;
}

/** With nothing of a secret in its environment. */
async function start(databaseUrl: string, redisUrl: string) {
  const replica = await startReplica(
    { databaseUrl: "", keyPrefix: name },
    {
      DATABASE_URL_FILE: await inFile(databaseUrl),
      REDIS_URL_FILE: await inFile(redisUrl),
      ...{ AUTH: "off", MIGRATE: "check", LOG_LEVEL: "trace" },
    },
  );
  return replica;
}

const redisUrl = `redis://${redisUser}:${password}@127.0.0.1:${port}`;
const replica = await start(database.serveUrl, redisUrl);
atEnd(async () => void (await replica.stop()));
const { client } = replica;

const lines = () =>
  replica
    .log()
    .split("\n")
    .flatMap((line) => (line.startsWith("{") ? [JSON.parse(line) as { level?: number }] : []));
const metrics = async (httpPort = replica.httpPort) =>
  await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();

test("all that the service does, it may do, and it asks for nothing else", async () => {
  const catalog = CatalogService.method;
  const limited = await createSample(client, { quantity: 10n, usageCap: 5n, maxPerUser: 3 });
  const counted = await createSample(client, {
    quota: { group: "g", maxPerDay: 2 },
    throttle: { maxConcurrent: 5, maxPerSecond: 50 },
  });
  const book = await createSample(client, { codeBook: {} });
  const pool = await createSample(client, { type: CouponType.STANDARD });
  await client.call(catalog.batchCreateCoupons, { coupons: [sampleCoupon(), sampleCoupon()] });
  await client.call(catalog.updateCoupon, { coupon: { id: pool.id, name: "Eleven" }, updateMask: { paths: ["name"] } });
  await client.call(catalog.pauseCoupon, { couponId: pool.id });
  await client.call(catalog.resumeCoupon, { couponId: pool.id });
  const ofBook = { case: "couponId" as const, value: book.id };
  await client.call(catalog.uploadCodes, { target: ofBook, lines: [{ code: "RIGHT-1" }, { code: "RIGHT-2" }] });
  const { job } = await client.call(catalog.generateCodes, { couponId: book.id, pattern: "GEN-####", count: 20 });
  await until("the codes are generated", async () => {
    const { job: now } = await client.call(catalog.getCodeJob, { jobId: job?.id ?? "" });
    return now?.state === CodeJobState.DONE;
  });

  const held = await issued(client, limited.id, "anna");
  const other = await issued(client, limited.id, "anna");
  await issued(client, counted.id, "anna");
  await client.call(IssuanceService.method.issueCoupon, {
    target: { case: "code", value: "right-1" },
    userId: "anna",
    requestId: "1",
  });
  await issue(client, book.id, "berta", "2");
  await client.call(IssuanceService.method.batchIssueCoupons, { couponId: limited.id, userIds: ["cleo", "dora"] });
  await client.call(catalog.deleteCodes, { target: ofBook, codes: ["GEN-0001"] });
  await quote(client, { userId: "anna", coupons: [held.id] });
  const { lockVersion } = await lockOne(client, { userId: "anna", coupons: [held.id] });
  await unlock(client, "anna", [{ id: held.id, lockVersion }]);
  const usage = await useOne(client, { userId: "anna", coupons: [held.id] });
  await cancel(client, "anna", usage.id);
  await client.call(UserCouponService.method.listUserCoupons, { userId: "anna" });
  await client.call(UsageService.method.listUsages, { userId: "anna" });
  await client.call(UserCouponService.method.deleteUserCoupon, { userId: "anna", userCouponId: other.id });
  await client.call(catalog.getStats, {});
  await client.call(catalog.listCoupons, {});
  await client.call(catalog.listCodes, { couponId: book.id });
  expect((await client.call(catalog.searchCoupons, { query: "percent" })).coupons.length).toBeGreaterThan(0);
  await client.call(catalog.deleteCoupon, { couponId: limited.id });

  // What runs by itself, each job once at least; the rarest ones here.
  await until("the frequent jobs have run", async () => {
    const runs = [...(await metrics()).matchAll(/^coupon_job_runs_total\{job="([^"]+)",outcome="OK"\} (\d+)/gm)];
    return runs.filter(([, , count]) => Number(count) > 0).length >= runs.length - 3;
  });
  const own = openDatabase({ url: database.serveUrl, poolSize: 4 });
  onTestFinished(() => own.close());
  const told: unknown[] = [];
  const log = { info: (...all: unknown[]) => told.push(all) };
  await new MonthKeeper("keep events", new PostgresEventStore(own), 400, log).run();
  await new MonthKeeper("keep audit records", new PostgresAuditStore(own), 800, log).run();
  const purging = { afterDays: 1, deletedCodesKeepHours: 0, everyMinutes: 1, dryRun: false };
  await new Purger(new PostgresPurgeStore(own), purging, log as never).run();
  const server = await withSql(database.serveUrl, async (sql) => {
    const [made] = await sql
      .unsafe(
        `SET search_path = ${searchPath()}; SELECT made FROM keep_months('events', now() + interval '2 months', 0)`,
      )
      .then((results) => (results as unknown as { made: number }[][])[1] ?? []);
    const [owners] = await sql`
      SELECT array_agg(DISTINCT pg_get_userbyid(c.relowner)::text) AS names
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'events'::regclass`;
    return { made: made?.made, owners: owners?.names };
  });
  expect(server).toEqual({ made: 2, owners: [database.role("migrate")] });

  expect(lines().filter(({ level }) => Number(level) >= 40)).toEqual([]);
  expect(await metrics()).not.toMatch(/^coupon_(?:postgres_errors_total|job_runs_total\{.*outcome="FAILED").* [1-9]/m);
  expect(await asAdmin("ACL", "LOG")).toEqual([]);
});

test("a user who serves may change no table, and one who reads sees no codes and changes nothing", async () => {
  const refused = (url: string, statement: string) =>
    withSql(url, (sql) =>
      sql.unsafe(statement).then(
        () => "done",
        (error: { code: string }) => error.code,
      ),
    );
  for (const statement of [
    "CREATE TABLE public.mine (id int)",
    "CREATE SCHEMA mine",
    "CREATE TEMPORARY TABLE mine (id int)",
    "ALTER TABLE coupons ADD COLUMN mine int",
    "DROP TABLE events_rest",
    "TRUNCATE requests",
    "DELETE FROM drizzle.__drizzle_migrations",
    `DROP FUNCTION ${searchPath().split(",")[0]}.coupon_clock()`,
  ])
    expect([statement, await refused(database.serveUrl, statement)]).toEqual([statement, "42501"]);
  // What a migration has made is shown to who reads only after that.
  expect(await refused(database.readUrl, "SELECT id FROM coupons")).toBe("42501");
  await database.makeRoles();
  for (const [statement, outcome] of [
    ["SELECT id, name, issued_count FROM coupons", "done"],
    ["SELECT count(*), sum(holder_count) FROM codes", "done"],
    ["SELECT kind FROM events", "done"],
    ["SELECT code FROM codes", "42501"],
    ["SELECT * FROM user_coupons", "42501"],
    ["SELECT lock_token FROM user_coupons", "42501"],
    ["SELECT * FROM requests", "42501"],
    ["UPDATE coupons SET name = 'x'", "42501"],
    [`SELECT ${searchPath().split(",")[0]}.keep_months('events', now(), 1)`, "42501"],
  ] as const)
    expect([statement, await refused(database.readUrl, statement)]).toEqual([statement, outcome]);
});

test("Redis refuses what the service has no need of, and a right that is missing is named in the log", async () => {
  const redis = new Redis(redisUrl, { lazyConnect: true, enableReadyCheck: false, retryStrategy: () => null });
  onTestFinished(() => redis.disconnect());
  for (const [command, ...args] of [
    ["get", "elsewhere:x"],
    ["del", "elsewhere:x"],
    ["eval", "return redis.call('GET', KEYS[1])", "1", "elsewhere:x"],
    ["flushall"],
    ["keys", "*"],
    ["scan", "0"],
    ["config", "get", "*"],
    ["acl", "list"],
    ["monitor"],
    ["subscribe", "x"],
    ["script", "flush"],
    ["eval", "return redis.call('FLUSHALL')", "0"],
    ["shutdown"],
  ] as [string, ...string[]][])
    await expect(redis.call(command, ...args), command).rejects.toThrow(/NOPERM|can't (?:run|access)|No permissions/i);

  // One that only scripts use, and one that is used as it is.
  for (const right of ["hmget", "unlink"]) {
    const { id } = await createSample(client);
    await asAdmin("ACL", "SETUSER", redisUser, `-${right}`);
    expect((await issued(client, id, "emil")).couponId).toBe(id);
    await client.call(CatalogService.method.pauseCoupon, { couponId: id });
    await until(`${right} is named`, () =>
      lines().some((line) => Number(line.level) >= 40 && new RegExp(`\\b${right}\\b`, "i").test(JSON.stringify(line))),
    );
    await asAdmin("ACL", "SETUSER", redisUser, `+${right}`);
  }
});

test("no secret is in what the service writes, tells or shows, also when it is a wrong one", async () => {
  const wrong = "wr0ng-4712";
  const other = await start(database.serveUrl, redisUrl.replace(password, wrong));
  onTestFinished(async () => void (await other.stop()));
  const { id } = await createSample(other.client);
  await issued(other.client, id, "anna");
  await until("it says what is wrong", () => other.log().includes("WRONGPASS"));
  const seen = [replica.log(), other.log(), await metrics(), await metrics(other.httpPort)];
  for (const one of [replica, other]) {
    for (const file of ["cmdline", "environ"])
      seen.push(await readFile(`/proc/${one.process.pid}/${file}`, "utf8").catch(() => ""));
  }
  const { code, out, errors } = await runService({
    DATABASE_URL: database.serveUrl.replace(password, wrong),
    MIGRATE: "check",
    LOG_LEVEL: "trace",
  });
  expect([code, errors]).toEqual([1, expect.stringContaining("password authentication failed")]);
  seen.push(out, errors);
  for (const text of seen) {
    for (const secret of [password, wrong]) expect(text.includes(secret)).toBe(false);
  }
});
