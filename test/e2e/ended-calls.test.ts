import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { create, toBinary } from "@bufbuild/protobuf";
import grpc from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";

const path = (file: string) => fileURLToPath(new URL(file, import.meta.url));
const callers = 32;
const calls = 4_000;
/**
 * A call leaves 8 KB there when ended ones are held. Else Node's own streams are left: 2.4 KB with Node 20, and 5.9 with Node 24, which
 * holds more of them itself.
 */
const mostBytes = Number.parseInt(process.versions.node, 10) < 22 ? 4_000 : 7_000;

/**
 * What an ended call leaves behind must be gone with the next small collection: else each of these copies the calls of all that
 * ended since the last full one, which takes a fifth of the time of a busy process.
 */
test("calls that have ended do not move into the old generation", async () => {
  const options = ["--max-semi-space-size=32", "--no-allocation-site-pretenuring", "--initial-old-space-size=512"];
  const child = spawn(
    process.execPath,
    [...options, "--import", path("../support/heap-probe.mjs"), path("../../dist/bench/support/front-end.js")],
    { stdio: ["pipe", "pipe", "inherit", "ipc"] },
  );
  try {
    const [line] = await once(createInterface({ input: child.stdout! }), "line");
    const { grpcPort } = JSON.parse(line as string) as { grpcPort: number };
    const client = new grpc.Client(`127.0.0.1:${grpcPort}`, grpc.credentials.createInsecure());
    const message = Buffer.from(
      toBinary(
        IssueCouponRequestSchema,
        create(IssueCouponRequestSchema, {
          target: { case: "couponId", value: crypto.randomUUID() },
          userId: "user-1",
        }),
      ),
    );
    const same = (bytes: Buffer) => bytes;
    const call = () =>
      new Promise<void>((resolve, reject) => {
        const deadline = Date.now() + 30_000;
        const method = "/coupon.v1.IssuanceService/IssueCoupon";
        client.makeUnaryRequest(method, same, same, message, { deadline }, (error) =>
          error ? reject(error) : resolve(),
        );
      });
    const make = async (count: number) => {
      let left = count;
      const caller = async () => {
        while (left-- > 0) await call();
      };
      await Promise.all(Array.from({ length: callers }, caller));
    };
    const oldBytes = async () => {
      child.send("how many");
      const [bytes] = await once(child, "message");
      return bytes as number;
    };
    await make(calls);
    const before = await oldBytes();
    await make(calls);
    const left = ((await oldBytes()) - before) / calls;
    client.close();
    expect(left).toBeLessThan(mostBytes);
  } finally {
    child.kill();
    await once(child, "exit");
  }
});
