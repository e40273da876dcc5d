import { type AddressInfo, createServer } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { ConnectError, createCouponClient, isRefusal, StatusCode } from "../../../clients/typescript/src/node.js";
import { type Answer, loadedServer, overloaded, refused } from "./loaded-server.js";

const issue = { target: { case: "couponId", value: "0198c3f0-0000-7000-8000-000000000000" }, userId: "u" } as const;
/** Long enough for any machine: nothing here waits for it. */
const timeoutMs = 60_000;

async function failure(call: Promise<unknown>): Promise<unknown> {
  return await call.then(
    () => undefined,
    (error: unknown) => error,
  );
}

test("a call that is turned away twice succeeds at the third try, under one request id and with the time that is left", async () => {
  const { client, tries } = await loadedServer([overloaded(20), overloaded(20), "OK"], { timeoutMs });
  await client.issuance.issueCoupon(issue);
  expect(tries).toHaveLength(3);
  expect(tries[0]?.requestId).toMatch(/^[!-~]{16,64}$/);
  expect(new Set(tries.map(({ requestId }) => requestId)).size).toBe(1);
  const [first, second, third] = tries.map(({ leftMs }) => leftMs as number) as [number, number, number];
  expect(first).toBe(timeoutMs);
  // Each wait was 20 ms at least.
  expect(first - second).toBeGreaterThanOrEqual(20);
  expect(second - third).toBeGreaterThanOrEqual(20);
});

test("calls have different request ids, and the caller's own is kept", async () => {
  const { client, tries } = await loadedServer(["OK"], { timeoutMs });
  const request = { ...issue };
  await client.issuance.issueCoupon(request);
  await client.issuance.issueCoupon(request);
  await client.issuance.issueCoupon({ ...issue, requestId: "mine" });
  expect(new Set(tries.map(({ requestId }) => requestId)).size).toBe(3);
  expect(tries[2]?.requestId).toBe("mine");
  expect(request).toEqual(issue);
});

describe("what is tried again", () => {
  const cases: [string, Answer, number][] = [
    ["OVERLOADED", overloaded(), 2],
    ["STORE_UNAVAILABLE", refused("STORE_UNAVAILABLE", StatusCode.Unavailable, 1), 2],
    ["RATE_LIMITED", refused("RATE_LIMITED", StatusCode.ResourceExhausted, 1), 2],
    ["THROTTLED", refused("THROTTLED", StatusCode.ResourceExhausted, 1), 2],
    ["DEADLINE_EXCEEDED of one try", refused("DEADLINE_EXCEEDED", StatusCode.DeadlineExceeded), 2],
    ["a transport that lost the call", new ConnectError("gone", StatusCode.Unavailable), 2],
    ["SOLD_OUT", refused("SOLD_OUT", StatusCode.FailedPrecondition), 1],
    ["LOCKED, for a person to wait for", refused("LOCKED", StatusCode.FailedPrecondition, 1), 1],
    ["QUOTA_REACHED", refused("QUOTA_REACHED", StatusCode.ResourceExhausted, 1), 1],
    ["a fault of the service", refused("INTERNAL", StatusCode.Internal), 1],
    ["a pushback that says never", refused("OVERLOADED", StatusCode.Unavailable, 1, "-1"), 1],
    ["a wait longer than the call has", overloaded(timeoutMs), 1],
    ["what another service refused", new ConnectError("no", StatusCode.PermissionDenied), 1],
  ];
  test.for(cases)("%s", async ([, answer, expected]) => {
    const { client, tries } = await loadedServer([answer, "OK"], { timeoutMs });
    const error = await failure(client.issuance.issueCoupon(issue));
    expect(tries).toHaveLength(expected);
    if (expected === 2) expect(error).toBeUndefined();
    else expect(error).toMatchObject({ code: (answer as ConnectError).code });
  });

  test("a try that takes too long, of a call that has more time", async () => {
    const { client, tries } = await loadedServer(["never", "OK"], { timeoutMs, retries: { attemptTimeoutMs: 500 } });
    await client.issuance.issueCoupon(issue);
    expect(tries[1]?.requestId).toBe(tries[0]?.requestId);
  });

  test("a read, which has no request id", async () => {
    const { client, tries } = await loadedServer([overloaded(), "OK"], { timeoutMs });
    await client.catalog.listCoupons({});
    expect(tries).toHaveLength(2);
  });
});

test("there are so many tries, and the last refusal is the answer", async () => {
  const { client, tries } = await loadedServer([overloaded()], { timeoutMs, retries: { attempts: 3 } });
  const error = await failure(client.issuance.issueCoupon(issue));
  expect(tries).toHaveLength(3);
  expect(isRefusal(error, "OVERLOADED") && error.refusal.retryAfterMs).toBe(1);
});

test("without retries a call is tried once", async () => {
  const { client, tries } = await loadedServer([overloaded()], { timeoutMs, retries: false });
  expect(isRefusal(await failure(client.issuance.issueCoupon(issue)), "OVERLOADED")).toBe(true);
  expect(tries).toHaveLength(1);
});

test("when all calls are refused, the client makes no more retries than its budget has", async () => {
  const budget = 5;
  const { client, tries } = await loadedServer([overloaded()], { timeoutMs, retries: { budget } });
  const calls = 20;
  const errors = await Promise.all(Array.from({ length: calls }, () => failure(client.issuance.issueCoupon(issue))));
  expect(errors.every((error) => isRefusal(error, "OVERLOADED"))).toBe(true);
  expect(tries).toHaveLength(calls + budget);
});

test("a caller that gives up is not waited for", async () => {
  const { client, tries } = await loadedServer([overloaded(timeoutMs / 2)], { timeoutMs });
  const stop = new AbortController();
  const call = failure(client.issuance.issueCoupon(issue, { signal: stop.signal }));
  await expect.poll(() => tries.length).toBe(1);
  stop.abort();
  expect(await call).toMatchObject({ code: StatusCode.Canceled });
  expect(tries).toHaveLength(1);
});

test("the deadline ends a call that is not answered", async () => {
  const { client } = await loadedServer(["never"], { timeoutMs });
  expect(await failure(client.issuance.issueCoupon(issue, { timeoutMs: 50 }))).toMatchObject({
    code: StatusCode.DeadlineExceeded,
  });
});

test("a token is asked for anew for each try", async () => {
  let asked = 0;
  const credentials = { token: async () => `token-${++asked}` };
  const { client, tries } = await loadedServer([overloaded(), "OK"], { timeoutMs, credentials });
  await client.issuance.issueCoupon(issue);
  expect(tries.map(({ authorization }) => authorization)).toEqual(["Bearer token-1", "Bearer token-2"]);
});

test("a supplier of tokens that hangs does not outlast the call", async () => {
  const credentials = { token: () => new Promise<string>(() => {}) };
  const { client, tries } = await loadedServer(["OK"], { timeoutMs: 50, credentials });
  expect(await failure(client.issuance.issueCoupon(issue))).toMatchObject({ code: StatusCode.DeadlineExceeded });
  expect(tries).toEqual([]);
});

test("a server that is not there is told as unavailable, after the retries that a lost call gets", async () => {
  const closed = createServer();
  await new Promise<void>((resolve) => closed.listen(0, "127.0.0.1", resolve));
  const baseUrl = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
  await new Promise((resolve) => closed.close(resolve));
  const client = createCouponClient({ baseUrl, timeoutMs, retries: { attempts: 2 } });
  onTestFinished(() => client.close());
  const error = await failure(client.catalog.listCoupons({}));
  expect(error).toMatchObject({ code: StatusCode.Unavailable });
  expect(isRefusal(error)).toBe(false);
});
