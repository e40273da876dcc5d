/**
 * npm run test:upgrade -- [--rate 500] [--seconds 8] [--from <tag or commit>]
 *
 * Runs the previous release and this one side by side, under load, on servers of their own: the old one first and this one
 * beside it, as in an upgrade; then this one first and the old one beside it, as in an upgrade that is taken back. In each
 * order the first one serves alone, both serve, and the second one serves alone, each for --seconds. --rate is issues a second;
 * locks, uses, cancels and lists come with them. No call may fail, and what callers were told must be what is in the stores.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";
import postgres from "postgres";
import { startEmbedded } from "../../dist/embedded/embedded.js";
import { root } from "../build.mjs";
import { audit } from "./audit.mjs";
import { Load } from "./load.mjs";
import { buildRelease, previousRelease } from "./previous-release.mjs";
import { startReplica } from "./replica.mjs";

const maxShown = 20;
/** Of all issues one in ten asks for the scarce coupon: it is sold out after two thirds of the time. */
const scarceShare = 1 / 15;

const options = { rate: { type: "string" }, seconds: { type: "string" }, from: { type: "string" } };

function settings() {
  const { rate = "500", seconds = "8", from = previousRelease() } = parseArgs({ options }).values;
  for (const [name, value] of Object.entries({ rate, seconds })) {
    if (!/^[1-9]\d*$/.test(value)) throw new Error(`--${name} must be a whole number`);
  }
  return { rate: Number(rate), seconds: Number(seconds), from };
}

const say = (text) => process.stdout.write(`${text}\n`);

async function main() {
  const { rate, seconds, from } = settings();
  const folder = await mkdtemp(join(tmpdir(), "coupon-upgrade-"));
  const cleanups = [() => rm(folder, { recursive: true, force: true })];
  try {
    say(`building the previous release, ${from}`);
    buildRelease(from, folder);
    const servers = await startEmbedded();
    cleanups.push(() => servers.stop());
    if (!servers.redisUrl) throw new Error(`a real Redis is needed: ${servers.redisUnavailable}`);
    const [old, present] = [
      { name: "old", folder },
      { name: "new", folder: root },
    ];
    let count = 0;
    for (const [first, second] of [
      [old, present],
      [present, old],
    ]) {
      say(`\n${first.name} first, then ${second.name} beside it, then ${second.name} alone; ${rate} issues/s`);
      const wrong = await runOrder({ first, second, rate, seconds, servers });
      for (const line of wrong.slice(0, maxShown)) say(`WRONG ${line}`);
      if (wrong.length > maxShown) say(`... and ${wrong.length - maxShown} more`);
      count += wrong.length;
    }
    say(count === 0 ? "\nall is right" : `\n${count} things are wrong`);
    process.exitCode = count === 0 ? 0 : 1;
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup();
  }
}

async function runOrder({ first, second, rate, seconds, servers }) {
  const name = `upgrade_${first.name}_first`;
  const url = new URL(servers.databaseUrl);
  url.pathname = `/${name}`;
  const admin = postgres(servers.databaseUrl, { max: 1 });
  await admin.unsafe(`CREATE DATABASE ${name} TEMPLATE template0`);
  await admin.end();
  const sql = postgres(url.href, { max: 1 });
  const redis = new Redis(servers.redisUrl);
  const environment = { DATABASE_URL: url.href, REDIS_URL: servers.redisUrl, REDIS_KEY_PREFIX: name };
  const load = new Load();
  const replicas = [];
  let isOver = false;
  const start = async ({ name: label, folder }) => {
    const startedMs = performance.now();
    const replica = await startReplica(folder, environment);
    replicas.push({ label, ...replica });
    say(`  ${label} serves after ${Math.round(performance.now() - startedMs)} ms`);
    return replica;
  };
  try {
    const one = await start(first);
    await load.shiftTo([one.target], `${first.name} alone`);
    const issues = rate * seconds * 3;
    const quantities = { plenty: issues * 2, scarce: Math.round(issues * scarceShare) };
    const coupons = {};
    for (const [kind, quantity] of Object.entries(quantities)) {
      coupons[kind] = { id: await load.createCoupon(kind, quantity), quantity };
    }
    const startedMs = performance.now();
    const offered = load.offer({ plenty: coupons.plenty.id, scarce: coupons.scarce.id, rate, isOver: () => isOver });
    await sleep(seconds * 1_000);
    load.begin(`${second.name} starts`);
    const two = await start(second);
    await load.shiftTo([one.target, two.target], "both");
    await sleep(seconds * 1_000);
    // Calls of the first one are under way when it is told to stop.
    await load.shiftTo([two.target], `${second.name} alone`);
    const ended = await one.stop();
    say(`  ${first.name} has ended with ${ended}`);
    await sleep(seconds * 1_000);
    isOver = true;
    await offered;
    const tookS = (performance.now() - startedMs) / 1_000;
    const wrong = [...load.failures, ...(await audit({ sql, redis, keyPrefix: name, load, coupons }))];
    if (ended !== 0) wrong.push(`${first.name} ended with ${ended}`);
    const last = await two.stop();
    if (last !== 0) wrong.push(`${second.name} ended with ${last}`);
    report(load, tookS);
    for (const { label, tail } of wrong.length > 0 ? replicas : [])
      say(`  log of ${label}:\n    ${tail.join("\n    ")}`);
    return wrong;
  } finally {
    isOver = true;
    load.close();
    redis.disconnect();
    await sql.end();
    for (const { stop } of replicas) await stop();
  }
}

function report(load, tookS) {
  const asked = [...load.latenciesMs.values()].reduce((sum, { length }) => sum + length, 0);
  const figures = [
    `${load.calls} calls in ${tookS.toFixed(1)} s`,
    `${asked} asked for a coupon (${Math.round(asked / tookS)}/s), ${load.issued.length} got one`,
    `${load.soldOut} sold out`,
    `${load.used.length} used, ${load.cancelled.length} cancelled`,
    `${load.retries} repeated, ${load.failures.length} failed`,
  ];
  say(`  ${figures.join("; ")}`);
  for (const [phase, latenciesMs] of load.latenciesMs) {
    const sorted = latenciesMs.sort((a, b) => a - b);
    const ms = (share) => `${Math.round(sorted[Math.floor((sorted.length - 1) * share)] ?? 0)} ms`;
    say(`    ${phase}: ${sorted.length} asks, p50 ${ms(0.5)}, p99 ${ms(0.99)}, worst ${ms(1)}`);
  }
}

await main().catch((error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
});
