import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { expect, onTestFinished, test } from "vitest";
import { IssuanceService, IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { startReplica } from "../support/replica.js";
import { backing } from "../support/service.js";
import { until } from "../support/until.js";
import { sized } from "./checkout.js";
import { createCoupon, type Want, wants } from "./crowd.js";

const perSecond = sized(60, 1_000);
const seconds = sized(6, 20);
/** The first replica is restarted when so many of all calls have been sent. */
const firstShare = 0.1;

/** The one that the documentation gives to those who integrate. */
function documentedServiceConfig(): string {
  const text = readFileSync(join(packageRoot(), "docs/integrating.md"), "utf8");
  return JSON.stringify(JSON.parse(/```json\n(\{\s+"methodConfig".*?)```/s.exec(text)?.[1] ?? ""));
}

const same = (bytes: Buffer) => bytes;
const path = `/${IssuanceService.typeName}/${IssuanceService.method.issueCoupon.name}`;

test("both replicas are restarted under load: a client with the documented retry policy has no call that fails", async () => {
  const { stores, sql } = await backing(onTestFinished);
  const replicas = await Promise.all([startReplica(stores), startReplica(stores)]);
  onTestFinished(async () => void (await Promise.all(replicas.map((replica) => replica.stop()))));
  const couponId = await createCoupon(replicas[0].client, 1_000_000);
  const addresses = replicas.map(({ grpcPort }) => `127.0.0.1:${grpcPort}`);
  const client = new Client(`ipv4:${addresses.join(",")}`, credentials.createInsecure(), {
    "grpc.service_config": documentedServiceConfig(),
    // So says the documentation, too.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    // Two services at once may each have a client of the same address in this process.
    "grpc.use_local_subchannel_pool": 1,
  });
  onTestFinished(() => client.close());

  const failed: string[] = [];
  const issue = ({ userId, requestId }: Want) =>
    new Promise<void>((resolve) => {
      const target = { case: "couponId" as const, value: couponId };
      const bytes = Buffer.from(
        toBinary(IssueCouponRequestSchema, create(IssueCouponRequestSchema, { target, userId, requestId })),
      );
      client.makeUnaryRequest(path, same, same, bytes, new Metadata(), {}, (error: ServiceError | null) => {
        if (error) failed.push(`${error.code} ${error.details}`);
        resolve();
      });
    });

  const list = wants(couponId, "u", perSecond * seconds);
  const restart = async () => {
    for (const [at, old] of replicas.entries()) {
      const { grpcPort, httpPort } = old;
      expect(await old.stop()).toBe(0);
      replicas[at] = await startReplica(stores, { GRPC_PORT: String(grpcPort), HTTP_PORT: String(httpPort) });
      // As a deployment does, which goes on when the new one takes calls.
      await until("clients call it", async () => {
        const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
        return /^coupon_calls_total\{rpc="IssueCoupon",outcome="OK"\} [1-9]/m.test(text);
      });
    }
  };
  let restarting: Promise<void> | undefined;
  let isRestarted = false;
  let sent = 0;
  const calls: Promise<void>[] = [];
  const startedMs = Date.now();
  // Until all were sent and both replicas are there again, whichever takes longer.
  while (sent < list.length || !isRestarted) {
    const due = Math.floor(((Date.now() - startedMs) * perSecond) / 1_000);
    for (; sent < due; sent++) calls.push(issue(list[sent] ?? (wants(couponId, `more${sent}`, 1)[0] as Want)));
    if (sent >= list.length * firstShare)
      restarting ??= restart().finally(() => {
        isRestarted = true;
      });
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await restarting;
  await Promise.all(calls);

  expect(failed).toEqual([]);
  const [row] = await sql`SELECT count(*)::int AS held FROM user_coupons WHERE coupon_id = ${couponId}`;
  const [coupon] = await sql`SELECT issued_count::int AS issued FROM coupons WHERE id = ${couponId}`;
  expect([row?.held, coupon?.issued]).toEqual([sent, sent]);
  console.log(`${sent} calls in ${Math.round((Date.now() - startedMs) / 1_000)} s, none failed`);
});
