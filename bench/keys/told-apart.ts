/**
 * npm run bench:keys [-- TRIES]
 *
 * Whether somebody who guesses can tell by the time of the answer that there is a key with an id: tries with the id of a key and
 * a wrong secret against tries with an id that is none, in random order, one after the other over one connection. Prints
 * Mann and Whitney's z and Welch's t, which for tries that are alike is beyond 3 once in 370 times. A comparison that must be told apart
 * (a token that is no key at all, for which nothing is hashed) shows what the method can see.
 */

import { randomInt } from "node:crypto";
import * as http from "node:http";
import { startEmbedded } from "../../embedded/embedded.js";
import { startApp } from "../../src/app.js";
import { unauthenticated } from "../../src/auth/authenticator.js";
import { KeyAuthenticator } from "../../src/auth/keys/key-authenticator.js";
import { KeyCopy } from "../../src/auth/keys/key-copy.js";
import { freshKey } from "../../src/auth/keys/key-text.js";
import { readConfig } from "../../src/config.js";
import { anybody } from "../../src/domain/principal.js";
import { createLogger } from "../../src/platform/logger.js";
import { Secret } from "../../src/platform/secrets/secret.js";
import { openDatabase } from "../../src/storage/postgres/database.js";
import { PostgresKeyStore } from "../../src/storage/postgres/keys/key-store.js";
import { migrate } from "../../src/storage/postgres/migrating/migrate.js";

const keyCount = 1_000;
const warmUp = 2_000;

type Kind = "right id, wrong secret" | "unknown id" | "no key at all";
const kinds: readonly Kind[] = ["right id, wrong secret", "unknown id", "no key at all"];

const tries = Number(process.argv[2] ?? 10_000);
if (!Number.isInteger(tries) || tries < 100 || tries > 1_000_000)
  throw new Error("TRIES must be from 100 to 1,000,000");

const servers = await startEmbedded({ servers: ["postgres"] });
try {
  const url = servers.databaseUrl as string;
  await migrate(url);
  const database = openDatabase({ url, poolSize: 4 });
  const store = new PostgresKeyStore(database);
  const ids: string[] = [];
  const call = { method: "CreateKey", principal: anybody, requestId: "bench", callerRequestId: "" };
  for (let at = 0; at < keyCount; at++) {
    const { id, hash } = freshKey();
    ids.push(id);
    await store.create({ id, hash, caller: "bench", scopes: ["use"], expiresAt: null }, null, {
      ...call,
      deadlineMs: Date.now() + 60_000,
    });
  }
  const secretOf = () => freshKey().text.slice(-32);
  const tokens: Readonly<Record<Kind, () => string>> = {
    "right id, wrong secret": () => `ck_${ids[randomInt(keyCount)]}_${secretOf()}`,
    "unknown id": () => freshKey().text,
    "no key at all": () => `ck_${secretOf()}${secretOf().slice(0, 13)}`,
  };

  const copy = new KeyCopy(store);
  await copy.run();
  const nothing = { authFailed: () => {}, warn: () => {}, debug: () => {} };
  const way = new KeyAuthenticator({ keys: copy, clock: { nowMs: Date.now }, failures: nothing, log: nothing });
  await report("in the process", tokens, async (token) => {
    // As it comes from the network: a text in one piece, however it was put together here.
    const value = Buffer.from(`Bearer ${token}`, "latin1").toString("latin1");
    const credentials = { header: () => value };
    const from = process.hrtime.bigint();
    const answer = way.authenticate(credentials);
    const ns = Number(process.hrtime.bigint() - from);
    if (answer !== unauthenticated) throw new Error("a guess was let in");
    return ns;
  });
  await database.close();

  const logger = createLogger("silent");
  const settings = { DATABASE_URL: url, AUTH: "keys", HOST: "127.0.0.1", GRPC_PORT: "0", HTTP_PORT: "0" };
  const app = await startApp({ ...readConfig(settings), DATABASE_URL: new Secret(url) }, logger);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  await report("over HTTP on this machine", tokens, (token) => ask(app.httpPort, agent, token));
  agent.destroy();
  await app.close();
} finally {
  await servers.stop();
}
process.exit();

function ask(port: number, agent: http.Agent, token: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const from = process.hrtime.bigint();
    const request = http.request(
      {
        ...{ agent, port, method: "POST", host: "127.0.0.1", path: "/coupon.v1.CatalogService/ListCoupons" },
        headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      },
      (response) => {
        const ns = Number(process.hrtime.bigint() - from);
        if (response.statusCode !== 401) return reject(new Error(`${response.statusCode}, where 401 was to be`));
        response.resume().once("end", () => resolve(ns));
      },
    );
    request.once("error", reject);
    request.end("{}");
  });
}

async function report(
  where: string,
  tokens: Readonly<Record<Kind, () => string>>,
  time: (token: string) => Promise<number>,
): Promise<void> {
  const order = kinds.flatMap((kind) => Array.from({ length: tries }, () => kind));
  for (let at = order.length - 1; at > 0; at--) {
    const other = randomInt(at + 1);
    [order[at], order[other]] = [order[other] as Kind, order[at] as Kind];
  }
  for (let at = 0; at < warmUp; at++) await time(tokens[kinds[at % kinds.length] as Kind]());
  const times: Record<Kind, number[]> = { "right id, wrong secret": [], "unknown id": [], "no key at all": [] };
  for (const kind of order) times[kind].push(await time(tokens[kind]()));
  console.log(`\n${where}, ${tries} tries of each:`);
  for (const kind of kinds) console.log(`  ${kind.padEnd(24)} median ${(median(times[kind]) / 1_000).toFixed(2)} us`);
  const [right, unknown, none] = kinds.map((kind) => times[kind]) as [number[], number[], number[]];
  for (const [name, a, b] of [
    ["right id against unknown id", right, unknown],
    ["unknown id against no key (must be told apart)", unknown, none],
  ] as const) {
    console.log(`  ${name}: z = ${mannWhitney(a, b).toFixed(2)}, t = ${welch(middle(a), middle(b)).toFixed(2)}`);
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] as number;
}

/** Without the slowest tenth: what the machine does meanwhile is in there, and drowns all else in t. */
function middle(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b).slice(0, Math.ceil(values.length * 0.9));
}

function welch(a: readonly number[], b: readonly number[]): number {
  const mean = (values: readonly number[]) => values.reduce((sum, one) => sum + one, 0) / values.length;
  const error = (values: readonly number[]) => {
    const middle = mean(values);
    return values.reduce((sum, one) => sum + (one - middle) ** 2, 0) / (values.length - 1) / values.length;
  };
  return (mean(a) - mean(b)) / Math.sqrt(error(a) + error(b));
}

function mannWhitney(a: readonly number[], b: readonly number[]): number {
  const all = [...a.map((value) => ({ value, isA: true })), ...b.map((value) => ({ value, isA: false }))];
  all.sort((one, other) => one.value - other.value);
  let rankSum = 0;
  let tied = 0;
  for (let from = 0; from < all.length; ) {
    let to = from;
    while (to < all.length && all[to]!.value === all[from]!.value) to += 1;
    const count = to - from;
    for (let at = from; at < to; at++) if (all[at]!.isA) rankSum += (from + 1 + to) / 2;
    tied += count ** 3 - count;
    from = to;
  }
  const n = all.length;
  const u = rankSum - (a.length * (a.length + 1)) / 2;
  const variance = ((a.length * b.length) / 12) * (n + 1 - tied / (n * (n - 1)));
  return (u - (a.length * b.length) / 2) / Math.sqrt(variance);
}
