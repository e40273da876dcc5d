import postgres from "postgres";
import { expect, onTestFinished, test } from "vitest";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { startApp } from "../../src/app.js";
import { readConfig } from "../../src/config.js";
import { createLogger } from "../../src/platform/logger.js";
import { Secret } from "../../src/platform/secrets/secret.js";
import { GrpcClient } from "../support/clients.js";
import { createStores } from "../support/stores.js";
import { until } from "../support/until.js";
import { insertCoupon, insertHoldings, openCoupon } from "./clocked-database.js";

/** Longer than DRAIN_MS, and than a connection to Postgres is waited for when it is closed. */
const heldMs = 2_500;
const drainMs = 100;

test("a commit that a lock holds up for longer than calls are waited for is done before the connections close", async () => {
  const stores = await createStores();
  const sql = postgres(stores.databaseUrl, { max: 2, onnotice: () => {} });
  onTestFinished(async () => {
    await sql.end();
    await stores.drop();
  });
  const config = readConfig({ HOST: "127.0.0.1", GRPC_PORT: "0", HTTP_PORT: "0", DRAIN_MS: String(drainMs) });
  const app = await startApp(
    { ...config, GRPC_PORT: 0, HTTP_PORT: 0, DATABASE_URL: new Secret(stores.databaseUrl) },
    createLogger("silent"),
  );
  const client = new GrpcClient(app.grpcPort);
  const couponId = await insertCoupon(sql, openCoupon(new Date()));

  let isClosed = false;
  let closing: Promise<void> | undefined;
  const undone = new Error("undone");
  const holding = sql.begin(async (tx) => {
    // Takes the slot that the call wants, so that its commit waits here, and nothing else does.
    const holder = { couponId, userId: "user", slot: 1, requestId: null, validUntil: null };
    await insertHoldings(tx as unknown as typeof sql, [holder], new Date());
    const call = client.call(IssuanceService.method.issueCoupon, {
      target: { case: "couponId", value: couponId },
      userId: "user",
    });
    call.catch(() => {});
    await until("the commit waits", async () => {
      const [row] = await sql`
        SELECT count(*)::int AS n FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%issue_user_coupons%'`;
      return row?.n === 1;
    });
    closing = app.close().then(() => {
      isClosed = true;
    });
    // Its caller is not waited for any longer than DRAIN_MS.
    await expect(call).rejects.toThrow();
    await tx`SELECT pg_sleep(${heldMs / 1_000})`;
    expect(isClosed).toBe(false);
    throw undone;
  });
  await expect(holding).rejects.toBe(undone);
  await closing;
  client.close();
  const [row] = await sql`SELECT count(*)::int AS n FROM user_coupons WHERE coupon_id = ${couponId}`;
  expect(row?.n).toBe(1);
});
