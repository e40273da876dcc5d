import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer as createPlainServer, type Socket } from "node:net";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { pino } from "pino";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { freePort } from "../../embedded/free-port.js";
import { StoreUnavailable } from "../../src/domain/refusal.js";
import { FailureLog } from "../../src/platform/failure-log.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { RedisGate, type RedisGateOptions } from "../../src/reservation/redis/redis-gate.js";
import { requestOf } from "../conformance/implementations.js";
import {
  adminPassword,
  dataServerLines,
  RedisProcesses,
  servicePassword,
  serviceUserInfo,
} from "../support/redis-processes.js";
import { until } from "../support/until.js";

const inTls = (file: string) => join(packageRoot(), "test/support/tls", file);

interface Server {
  readonly port: number;
}
let processes: RedisProcesses;
let [first, second]: Server[] = [];

beforeAll(async () => {
  processes = await RedisProcesses.open();
  [first, second] = await Promise.all(
    ["first", "second"].map(async (name) => {
      const port = await freePort();
      await processes.write(`${name}.conf`, dataServerLines(port));
      await processes.start(name, port, adminPassword);
      return { port };
    }),
  );
});
afterAll(() => processes?.close());

/** What the service would write to its log. */
let logged = "";
function open(options: Pick<RedisGateOptions, "url" | "settings">, keyPrefix = `test_${randomUUID()}`): RedisGate {
  logged = "";
  const log = pino(
    {},
    {
      write: (line) => {
        logged += line;
      },
    },
  );
  const gate = new RedisGate({
    ...{ keyPrefix, quotaGroupOf: async () => null, ...options },
    failures: new FailureLog({ log: { error: log.error.bind(log), warn: log.warn.bind(log) } }),
  });
  onTestFinished(() => gate.close());
  return gate;
}
const ask = async (gate: RedisGate) => (await gate.admit(requestOf(randomUUID(), "user-in-no-log"))).outcome;

/** Hands connections on, each to the server of the moment; as a virtual address does, or what ends TLS in front of Redis. */
async function proxy(target: () => Server, isSecure: boolean): Promise<number> {
  const sockets = new Set<Socket>();
  const take = (socket: Socket) => {
    const other = connect(target().port, "127.0.0.1");
    for (const [one, two] of [[socket, other] as const, [other, socket] as const]) {
      sockets.add(one);
      one.on("error", () => {});
      one.on("close", () => two.destroy());
      one.pipe(two);
    }
  };
  const server = isSecure
    ? createTlsServer(
        {
          ...{ cert: readFileSync(inTls("server.pem")), key: readFileSync(inTls("server-key.pem")) },
          ...{ ca: readFileSync(inTls("ca.pem")), requestCert: true, rejectUnauthorized: true },
        },
        take,
      )
    : createPlainServer(take);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

test("a user with what the service needs and no more, whose password has what URLs give a meaning to", async () => {
  const gate = open({ url: `redis://${serviceUserInfo}@127.0.0.1:${first?.port}` });
  expect(await gate.ready()).toBe(true);
  expect(await ask(gate)).toBe("NOT_LOADED");
  expect(await gate.survey(10, 10)).toEqual([]);
  expect(logged).toBe("");
});

test("what is wrong is reported without passwords, users or scripts", async () => {
  const gate = open({ url: `redis://shop:wrong-secret@127.0.0.1:${first?.port}` });
  expect(await gate.ready()).toBe(false);
  const refused = await ask(gate).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(StoreUnavailable);
  logged += JSON.stringify(pino.stdSerializers.err(refused as Error));
  expect(logged).toContain("WRONGPASS");
  expect(logged).not.toContain("wrong-secret");

  // Its user may not touch these keys.
  const forbidden = open({ url: `redis://${serviceUserInfo}@127.0.0.1:${first?.port}` }, "elsewhere");
  await forbidden.ready();
  await expect(ask(forbidden)).rejects.toThrow(/NOPERM/);
  expect(logged).toContain("NOPERM");
  for (const word of ["user-in-no-log", "redis.call", "wrong-secret", servicePassword])
    expect(logged).not.toContain(word);
});

test("TLS, with an authority and a certificate of one's own", async () => {
  const port = await proxy(() => first as Server, true);
  const url = `rediss://${serviceUserInfo}@localhost:${port}`;
  const files = { REDIS_TLS_CERT_FILE: inTls("server.pem"), REDIS_TLS_KEY_FILE: inTls("server-key.pem") };
  const gate = open({ url, settings: { REDIS_TLS_CA_FILE: inTls("ca.pem"), ...files } });
  expect(await gate.ready()).toBe(true);
  expect(await ask(gate)).toBe("NOT_LOADED");

  for (const settings of [files, { REDIS_TLS_CA_FILE: inTls("ca.pem") }]) {
    const stranger = open({ url, settings });
    expect(await stranger.ready()).toBe(false);
    await expect(ask(stranger)).rejects.toThrow(StoreUnavailable);
    await until("it is reported", () => /certificate/i.test(logged));
  }
});

test("a master that has become a replica, and keeps the connection, is left for the one that took its place", async () => {
  let target = first as Server;
  const port = await proxy(() => target, false);
  const gate = open({ url: `redis://${serviceUserInfo}@127.0.0.1:${port}` });
  expect(await gate.ready()).toBe(true);
  const loading = await gate.beginLoad(randomUUID());
  expect(loading).not.toBeNull();
  await processes.ask((first as Server).port, adminPassword, "REPLICAOF", "127.0.0.1", (second as Server).port);
  onTestFinished(
    async () => void (await processes.ask((first as Server).port, adminPassword, "REPLICAOF", "NO", "ONE")),
  );
  target = second as Server;
  await expect(gate.beginLoad(randomUUID())).rejects.toThrow(/READONLY/);
  await until("the other one is asked", async () => (await gate.beginLoad(randomUUID())) !== null);
  expect(logged).not.toContain("run a script");
});

test("a server that says nothing is left: a call meets an end of the connection, and then the one that took its place", async () => {
  let target = first as Server;
  const port = await proxy(() => target, false);
  const gate = open({ url: `redis://${serviceUserInfo}@127.0.0.1:${port}` });
  expect(await gate.ready()).toBe(true);
  expect(await ask(gate)).toBe("NOT_LOADED");
  processes.signal("first", "SIGSTOP");
  onTestFinished(() => processes.signal("first", "SIGCONT"));
  target = second as Server;
  await expect(ask(gate)).rejects.toThrow(StoreUnavailable);
  await until("the other one is asked", async () => (await ask(gate)) === "NOT_LOADED");
});

test("a server that is full is away, though it still tells what it has; what is wrong after that is reported, too", async () => {
  const gate = open({ url: `redis://${serviceUserInfo}@127.0.0.1:${second?.port}` });
  expect(await gate.ready()).toBe(true);
  const set = (name: string, value: string) =>
    processes.ask((second as Server).port, adminPassword, "CONFIG", "SET", name, value);
  const write = () => gate.loadPlaces(randomUUID(), { revision: 1, remaining: 1 });
  expect(gate.isAway).toBe(false);
  await set("maxmemory", "1");
  onTestFinished(async () => void (await set("maxmemory", "0")));
  await expect(write()).rejects.toThrow(/OOM/);
  expect(await gate.survey(10, 10)).toEqual([]);
  expect(await ask(gate)).toBe("NOT_LOADED");
  expect(gate.isAway).toBe(true);

  await set("maxmemory", "0");
  await set("min-replicas-to-write", "1");
  onTestFinished(async () => void (await set("min-replicas-to-write", "0")));
  await expect(write()).rejects.toThrow(/NOREPLICAS/);
  for (const word of ["OOM", "NOREPLICAS"]) expect(logged).toContain(`"code":"${word}"`);
});
