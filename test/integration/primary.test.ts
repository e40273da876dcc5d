import { connect, createServer, type Socket } from "node:net";
import { pino } from "pino";
import postgres, { type Sql } from "postgres";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { freePort } from "../../embedded/free-port.js";
import { readConfig } from "../../src/config.js";
import { StoreUnavailable } from "../../src/domain/refusal.js";
import { FailureLog } from "../../src/platform/failure-log.js";
import { Metrics } from "../../src/platform/metrics.js";
import { Secret } from "../../src/platform/secrets/secret.js";
import { openDatabase } from "../../src/storage/postgres/database.js";
import { awaitPrimary } from "../../src/storage/postgres/primary/await-primary.js";
import { askState, reachSync } from "../../src/storage/postgres/primary/server-state.js";
import { openPostgres } from "../../src/wiring/postgres.js";
import { createStores, type TestStores } from "../support/stores.js";
import { until } from "../support/until.js";

const forever = Number.POSITIVE_INFINITY;

let stores: TestStores;
let sql: Sql;

beforeEach(async () => {
  stores = await createStores();
  sql = postgres(stores.databaseUrl, { max: 1, onnotice: () => {} });
});
afterEach(async () => {
  await sql.end();
  await stores.drop();
});

/** The database's URL, with other hosts before its own. */
const withHosts = (...before: string[]) => {
  const { host } = new URL(stores.databaseUrl);
  return stores.databaseUrl.replace(host, [...before, host].join(","));
};
const nobody = async () => `127.0.0.1:${await freePort()}`;

/** Takes connections, and says nothing. */
async function silent(): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => void sockets.add(socket.on("error", () => {})));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as { port: number }).port}`;
}

function open(url: string) {
  const watched = new Map<string, unknown>();
  const database = openDatabase({ url, poolSize: 4, onWatched: (host, error) => void watched.set(host, error) });
  onTestFinished(() => database.close());
  const ask = () => database.reads.run(forever, async ({ sql }) => (await sql`SELECT 1 AS one`)[0]?.one);
  return { ask, watched };
}

test("a role that may do nothing is told what the server is, and can wait for its standbys", async () => {
  const name = `poor_${new URL(stores.databaseUrl).pathname.slice(6)}`;
  await sql.unsafe(`CREATE ROLE ${name} LOGIN PASSWORD 'secret' NOSUPERUSER`);
  const url = new URL(stores.databaseUrl);
  Object.assign(url, { username: name, password: "secret" });
  const poor = postgres(url.href, { max: 1, onnotice: () => {} });
  try {
    const [row] = await sql`SELECT system_identifier::text AS cluster FROM pg_control_system()`;
    expect(await askState(poor)).toEqual({ recovering: false, readonly: false, cluster: row?.cluster, timeline: 1 });
    await reachSync(poor);
  } finally {
    await poor.end();
    await sql.unsafe(`DROP ROLE ${name}`);
  }
});

test("the primary is found past hosts that are dead or silent, and these are reported", async () => {
  const hosts = [await nobody(), await silent()] as const;
  const { ask, watched } = open(withHosts(...hosts));
  expect(await ask()).toBe(1);
  await until("both are reported", () => hosts.every((host) => watched.get(host) instanceof Error));
});

test("when no host is the right one, that is said, and not tried for ever", async () => {
  const url = new URL(stores.databaseUrl);
  const { ask } = open(stores.databaseUrl.replace(url.host, `${await nobody()},${await nobody()}`));
  await expect(ask()).rejects.toThrow(StoreUnavailable);
});

test("a start waits for a server that is not there yet, and not for what waiting does not mend", async () => {
  const quiet = { warn: () => {} };
  const url = new URL(stores.databaseUrl);
  url.password = "wrong";
  await expect(awaitPrimary(url.href, 60_000, quiet)).rejects.toThrow(/^DATABASE_URL: password authentication failed/);
  const unknown = `${stores.databaseUrl}?channel_binding=require`;
  await expect(awaitPrimary(unknown, 60_000, quiet)).rejects.toThrow(/^DATABASE_URL: .*"channel_binding"/);
  const dead = stores.databaseUrl.replace(new URL(stores.databaseUrl).host, await nobody());
  await expect(awaitPrimary(dead, 1_000, quiet)).rejects.toThrow(/DATABASE_START_WAIT_MS.*ECONNREFUSED/);
  const hung = stores.databaseUrl.replace(new URL(stores.databaseUrl).host, await silent());
  await expect(awaitPrimary(hung, 1_000, quiet)).rejects.toThrow(/DATABASE_START_WAIT_MS.*no answer/);

  // It comes while it is waited for.
  const port = await freePort();
  const waited: object[] = [];
  const coming = awaitPrimary(
    stores.databaseUrl.replace(new URL(stores.databaseUrl).host, `127.0.0.1:${port}`),
    60_000,
    {
      warn: (facts: object) => void waited.push(facts),
    },
  );
  await until("it waits", () => waited.length === 1);
  const { hostname, port: realPort } = new URL(stores.databaseUrl);
  const server = createServer((client) => {
    const there = connect(Number(realPort), hostname);
    client
      .on("error", () => {})
      .on("close", () => there.destroy())
      .pipe(there);
    there.on("error", () => {}).pipe(client);
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  await coming;
  expect(JSON.stringify(waited)).not.toContain(new URL(stores.databaseUrl).password);
});

test("a start goes on when a connection to the primary was not made in time, and another one is", async () => {
  const { hostname, port } = new URL(stores.databaseUrl);
  let lost = 0;
  const server = createServer((client) => {
    client.on("error", () => {});
    client.once("data", (first) => {
      // As often as one piece of work tries to connect. Those that watch the primary have other names.
      if (lost < 2 && first.includes("application_name\0coupon-service\0")) {
        lost += 1;
        return;
      }
      const there = connect(Number(port), hostname).on("error", () => {});
      client
        .on("close", () => there.destroy())
        .pipe(there)
        .pipe(client);
      there.write(first);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const url = new URL(stores.databaseUrl);
  url.port = String((server.address() as { port: number }).port);
  const config = { ...readConfig({}), DATABASE_URL: new Secret(url.href) };
  const log = pino({ level: "silent" });
  const parts = { config, metrics: new Metrics("0"), failures: new FailureLog({ log }), log };
  const { database, clock } = await openPostgres(parts);
  onTestFinished(() => database.close());
  expect(lost).toBe(2);
  expect(Math.abs(clock.aheadMs)).toBeLessThan(60_000);
});
