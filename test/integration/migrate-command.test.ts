import { randomUUID } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import postgres from "postgres";
import { beforeEach, expect, inject, onTestFinished, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { whatIsMissing } from "../../src/storage/postgres/migrating/migrate.js";
import { ownFunctions } from "../../src/storage/postgres/migrating/release-functions.js";
import { runService, startReplica } from "../support/replica.js";
import { type DatabaseWithRoles, databaseWithRoles, withSql } from "../support/rights.js";
import { until } from "../support/until.js";

let name: string;
let database: DatabaseWithRoles;

beforeEach(async () => {
  name = `bare_${randomUUID().replaceAll("-", "")}`;
  database = await databaseWithRoles(onTestFinished, name);
});

test("with MIGRATE=check a replica refuses a database that is not up to date, and says what to do", async () => {
  const { code, errors } = await runService({ DATABASE_URL: database.ownerUrl, MIGRATE: "check" });
  expect(code).toBe(1);
  expect(errors).toContain("the database is not up to date: it lacks migration 0000_init, migration 0001_usages, ");
  expect(errors).toContain(`, functions ${ownFunctions().schema}. Run \`npm run migrate\``);
});

test("a database that one user owned gets roles while a replica serves as that user, which goes on", async () => {
  const { ownerUrl, migrateUrl, serveUrl } = database;
  expect(await runService({ DATABASE_URL: ownerUrl }, "migrate")).toEqual({ code: 0, out: "", errors: "" });
  const replica = await startReplica(
    { databaseUrl: ownerUrl, redisUrl: inject("redisUrl"), keyPrefix: name },
    { MIGRATE: "check" },
  );
  onTestFinished(() => replica.kill());
  const { coupon } = await replica.client.call(CatalogService.method.createCoupon, {
    coupon: {
      name: "Ten percent",
      discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
      expireTime: timestampFromMs(Date.now() + 86_400_000),
    },
  });
  await database.makeRoles();
  // It may be run again.
  await database.makeRoles();
  const { userCoupon } = await replica.client.call(IssuanceService.method.issueCoupon, {
    target: { case: "couponId", value: coupon?.id ?? "" },
    userId: "anna",
  });
  expect(userCoupon?.userId).toBe("anna");

  expect(await runService({ DATABASE_URL: migrateUrl }, "migrate")).toEqual({ code: 0, out: "", errors: "" });
  const owners = await withSql(
    migrateUrl,
    (sql) => sql`
      SELECT DISTINCT pg_get_userbyid(owner)::text AS name FROM (
        SELECT oid, relowner, relnamespace FROM pg_class UNION ALL SELECT oid, proowner, pronamespace FROM pg_proc
        UNION ALL SELECT oid, nspowner, oid FROM pg_namespace WHERE nspname <> 'public'
      ) o (id, owner, namespace) JOIN pg_namespace n ON n.oid = o.namespace
      WHERE n.nspname ~ '^(public|drizzle|coupon_fn_.*)$' AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = id AND deptype = 'e')`,
  );
  expect(owners.map((owner) => owner.name)).toEqual([database.role("migrate")]);
  expect(await whatIsMissing(serveUrl)).toEqual([]);

  // A replica holds its functions for as long as it runs.
  const admin = postgres(inject("databaseUrl"), { max: 1, onnotice: () => {} });
  onTestFinished(() => admin.end());
  const locks = () => admin`
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'
      AND database = (SELECT oid FROM pg_database WHERE datname = ${name})`;
  await until("its probe has the lock", async () => (await locks()).length === 1);
  expect(await replica.stop()).toBe(0);
  expect((await locks()).length).toBe(0);
});

test("the command says what is wrong with how it is called", async () => {
  expect(await runService({}, "migrate")).toMatchObject({ code: 2, errors: expect.stringContaining("DATABASE_URL") });
  expect(await runService({}, "mirgate")).toMatchObject({ code: 2, errors: expect.stringContaining("serve, migrate") });
  await database.makeRoles();
  const { code, errors } = await runService({ DATABASE_URL: database.serveUrl }, "migrate");
  expect({ code, errors }).toMatchObject({ code: 1, errors: expect.stringContaining("permission denied") });
});
