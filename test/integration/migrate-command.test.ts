import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import postgres, { type Sql } from "postgres";
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { ownFunctions } from "../../src/storage/postgres/migrating/release-functions.js";
import { withDatabase } from "../support/global-setup.js";
import { startReplica } from "../support/replica.js";
import { until } from "../support/until.js";

const main = join(packageRoot(), "dist/src/main.js");
let name: string;
let admin: Sql;
/** Of whoever owns everything, and of the service, which may only read and write rows. */
let ownerUrl: string;
let serviceUrl: string;

beforeEach(async () => {
  name = `bare_${randomUUID().replaceAll("-", "")}`;
  ownerUrl = withDatabase(inject("databaseUrl"), name);
  const url = new URL(ownerUrl);
  url.username = `service_${name}`;
  url.password = "secret";
  serviceUrl = url.href;
  admin = postgres(inject("databaseUrl"), { max: 1, onnotice: () => {} });
  await admin.unsafe(`CREATE DATABASE ${name} TEMPLATE template0`);
  await admin.unsafe(`CREATE ROLE service_${name} LOGIN PASSWORD 'secret'`);
});
afterEach(async () => {
  await admin.unsafe(`DROP DATABASE ${name} WITH (FORCE)`);
  await admin.unsafe(`DROP ROLE service_${name}`);
  await admin.end();
});

async function run(args: readonly string[], settings: Record<string, string>) {
  const child = spawn(process.execPath, [main, ...args], {
    env: { PATH: process.env.PATH, HOST: "127.0.0.1", GRPC_PORT: "0", HTTP_PORT: "0", LOG_LEVEL: "warn", ...settings },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  const [out, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await ended, out, errors };
}

async function grant(): Promise<void> {
  const owner = postgres(ownerUrl, { max: 1 });
  // As docs/deployment.md says.
  await owner.unsafe(`
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO service_${name};
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO service_${name};
    GRANT USAGE ON SCHEMA drizzle TO service_${name};
    GRANT SELECT ON ALL TABLES IN SCHEMA drizzle TO service_${name}`);
  await owner.end();
}

test("with MIGRATE=check a replica refuses a database that is not up to date, and says what to do", async () => {
  const { code, errors } = await run([], { DATABASE_URL: ownerUrl, MIGRATE: "check" });
  expect(code).toBe(1);
  expect(errors).toContain("the database is not up to date: it lacks migration 0000_init, migration 0001_usages, ");
  expect(errors).toContain(`, functions ${ownFunctions().schema}. Run \`npm run migrate\``);
});

test("one role migrates by the command, and another one serves with rights to rows alone", async () => {
  expect(await run(["migrate"], { DATABASE_URL: ownerUrl })).toEqual({ code: 0, out: "", errors: "" });
  await grant();
  const replica = await startReplica(
    { databaseUrl: serviceUrl, redisUrl: inject("redisUrl"), keyPrefix: name },
    { MIGRATE: "check" },
  );
  const { coupon } = await replica.client.call(CatalogService.method.createCoupon, {
    coupon: {
      name: "Ten percent",
      discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
      expireTime: timestampFromMs(Date.now() + 86_400_000),
    },
  });
  const { userCoupon } = await replica.client.call(IssuanceService.method.issueCoupon, {
    target: { case: "couponId", value: coupon?.id ?? "" },
    userId: "anna",
  });
  expect(userCoupon?.userId).toBe("anna");
  const found = await replica.client.call(CatalogService.method.searchCoupons, { query: "percent" });
  expect(found.coupons.map(({ id }) => id)).toEqual([coupon?.id]);

  // It holds its functions for as long as it runs.
  const locks = () => admin`
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'
      AND database = (SELECT oid FROM pg_database WHERE datname = ${name})`;
  await until("its probe has the lock", async () => (await locks()).length === 1);
  expect(await replica.stop()).toBe(0);
  expect((await locks()).length).toBe(0);
});

test("the command says what is wrong with how it is called", async () => {
  expect(await run(["migrate"], {})).toMatchObject({ code: 2, errors: expect.stringContaining("DATABASE_URL") });
  expect(await run(["mirgate"], {})).toMatchObject({ code: 2, errors: expect.stringContaining("serve, migrate") });
  await admin.unsafe(`REVOKE CREATE ON DATABASE ${name} FROM PUBLIC`);
  const { code, errors } = await run(["migrate"], { DATABASE_URL: serviceUrl });
  expect({ code, errors }).toMatchObject({ code: 1, errors: expect.stringContaining("permission denied") });
});
