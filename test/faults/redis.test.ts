import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { type EmbeddedServers, startEmbedded } from "../../embedded/embedded.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { backing, startReplicas } from "../support/service.js";
import type { TestStores } from "../support/stores.js";
import { until } from "../support/until.js";
import { sized } from "./checkout.js";
import {
  Audit,
  createCoupon,
  issueToAll,
  missing,
  outcomeOf,
  refusedButStored,
  sellTheRest,
  untilGateIsEven,
  type Want,
  wants,
} from "./crowd.js";
import { ReplyProxy } from "./reply-proxy.js";

const scarceQuantity = sized(300, 1_500);
const plentyQuantity = 5_000;
const inFlight = sized(150, 500);
/** When something happens: so far into a sale, of which a whole is the quantity of the scarce coupon. */
const after = (wholes: number) => Math.round(wholes * scarceQuantity);

let own: EmbeddedServers;
let redisUrl: string;

beforeAll(async () => {
  // A Redis of its own: here it is emptied, frozen and killed.
  own = await startEmbedded({ servers: ["redis"] });
  if (!own.redisUrl) throw new Error(`the tests need a real Redis: ${own.redisUnavailable}`);
  redisUrl = own.redisUrl;
});
afterAll(() => own?.stop());

let stores: TestStores;
let audit: Audit;

beforeEach(async () => {
  const around = await backing(onTestFinished, { redisUrl });
  stores = around.stores;
  audit = new Audit(around.sql);
});

const start = async (count: number, url = redisUrl) => {
  const settings = Array.from({ length: count }, () => ({}));
  const replicas = await startReplicas(onTestFinished, { ...stores, redisUrl: url }, ...settings);
  return replicas.map((replica) => replica.client);
};

/**
 * A sale with a fault in the middle of it: of one coupon there is less than is asked for, of another more. `fault` gets
 * how many were acknowledged so far, and is waited for before the books are checked.
 */
async function sale(clientCount: number, fault: (acknowledged: number) => void | Promise<void>, url = redisUrl) {
  const clients = await start(clientCount, url);
  const client = clients[0] as (typeof clients)[0];
  const scarce = await createCoupon(client, scarceQuantity);
  const plenty = await createCoupon(client, plentyQuantity);
  const [ofScarce, ofPlenty] = [wants(scarce, "user", after(1.5)), wants(plenty, "user", scarceQuantity)];
  // Every fifth caller asks twice under the same request id, as impatient ones do.
  const list: Want[] = [];
  ofScarce.forEach((want, n) => {
    list.push(want);
    const other = ofPlenty[n];
    if (other) list.push(other);
    if (n % 5 === 0) list.push(want);
  });
  const faults: (void | Promise<void>)[] = [];
  const tally = await issueToAll(list, { clients, inFlight, onAcknowledged: (count) => faults.push(fault(count)) });
  await Promise.all(faults);
  const rest = await sellTheRest(audit, clients, scarce, scarceQuantity);

  const exactly = (n: number) => ({ issuedCount: n, rows: n, users: n, events: n });
  expect(await audit.stored(scarce)).toEqual(exactly(scarceQuantity));
  expect(await audit.stored(plenty)).toEqual(exactly(ofPlenty.length));
  expect(await missing(audit, tally, rest)).toEqual([]);
  expect(await refusedButStored(audit, tally)).toEqual([]);
  // Everybody got an answer, and the only no was that of the scarce coupon.
  expect([...tally.refused.keys()].filter((reason) => reason !== "SOLD_OUT")).toEqual([]);
  expect([...tally.passing.keys()].filter((kind) => !/^(14|4) /.test(kind))).toEqual([]);
  expect(tally.acknowledged.size + rest.acknowledged.size).toBe(scarceQuantity + ofPlenty.length);
  await untilGateIsEven(
    audit,
    { redisUrl, keyPrefix: stores.keyPrefix },
    new Map([
      [scarce, scarceQuantity],
      [plenty, plentyQuantity],
    ]),
  );
  return { clients, scarce, plenty, tally };
}

/** Runs `act` once the count has reached the mark. */
const once = (mark: number, act: () => void | Promise<void>) => {
  let done = false;
  return (count: number) => {
    if (done || count < mark) return;
    done = true;
    return act();
  };
};

test("emptied three times in the middle of a sale", async () => {
  const admin = new Redis(redisUrl);
  onTestFinished(() => admin.disconnect());
  let flushes = 0;
  const flush = async () => {
    await admin.flushall();
    flushes += 1;
  };
  const steps = [once(after(0.3), flush), once(after(0.7), flush), once(after(1.2), flush)];
  await sale(2, async (count) => {
    for (const step of steps) await step(count);
  });
  expect(flushes).toBe(3);
});

test("killed in the middle of a sale", async () => {
  const before = own.redisPid as number;
  await sale(
    2,
    once(after(0.5), () => {
      process.kill(before, "SIGKILL");
    }),
  );
  await until("it was started again", () => own.redisPid !== before);
});

test("frozen for three seconds in the middle of a sale", async () => {
  const pid = own.redisPid as number;
  onTestFinished(() => void process.kill(pid, "SIGCONT"));
  await sale(
    1,
    once(after(0.5), async () => {
      process.kill(pid, "SIGSTOP");
      const endMs = Date.now() + 3_000;
      await until("three seconds are over", () => Date.now() >= endMs);
      process.kill(pid, "SIGCONT");
    }),
  );
});

test("its replies are lost for a while, again and again: no stock leaks", async () => {
  const proxy = await ReplyProxy.start(redisUrl);
  onTestFinished(() => proxy.close());
  // One after the other, however fast the sale goes: the end of one would end the next as well.
  let losing = Promise.resolve();
  const lose = () => {
    losing = losing.then(loseOnce);
    return losing;
  };
  const loseOnce = async () => {
    const before = proxy.lostBytes;
    proxy.loseReplies();
    await until("replies were lost", () => proxy.lostBytes > before);
    const endMs = Date.now() + 300;
    await until("more were lost", () => Date.now() >= endMs);
    proxy.restore();
  };
  const steps = [once(after(0.2), lose), once(after(0.8), lose), once(after(1.3), lose)];
  await sale(
    1,
    async (count) => {
      for (const step of steps) await step(count);
    },
    proxy.url,
  );
  expect(proxy.lostBytes).toBeGreaterThan(0);
});

test("connections to it are cut a dozen times: no stock leaks", async () => {
  const proxy = await ReplyProxy.start(redisUrl);
  onTestFinished(() => proxy.close());
  let cuts = 0;
  await sale(
    1,
    (count) => {
      if (count % after(0.13) !== 0) return;
      cuts += 1;
      proxy.cut();
    },
    proxy.url,
  );
  expect(cuts).toBeGreaterThan(8);
});

describe("the answers do not change", () => {
  /** One question for each answer that there is, and the answers while all is well. */
  async function questions() {
    const [client] = await start(1);
    if (!client) throw new Error("no replica");
    const gone = await createCoupon(client, 1);
    const held = await createCoupon(client, 10);
    const paused = await createCoupon(client, 10);
    const early = await createCoupon(client, 10, { startsInMs: 600_000 });
    const ended = await createCoupon(client, 10, { startsInMs: -600_000, endsInMs: -60_000 });
    const [winner] = wants(gone, "winner", 1) as [Want];
    const [holder] = wants(held, "holder", 1) as [Want];
    const [pausedHolder] = wants(paused, "holder", 1) as [Want];
    for (const want of [winner, holder, pausedHolder]) expect(await outcomeOf(client, want)).toBe("ISSUED");
    await client.call(CatalogService.method.pauseCoupon, { couponId: paused });

    const asked: Record<string, Want> = {
      replay: holder,
      "replay of a sold-out coupon": winner,
      "replay of a paused coupon": pausedHolder,
      "another request of a holder": { ...holder, requestId: "another" },
      "a holder without a request id": { ...holder, requestId: "" },
      "a holder of a sold-out coupon": { ...winner, requestId: "" },
      "a late one": { ...winner, userId: "late", requestId: "" },
      paused: { couponId: paused, userId: "new", requestId: "" },
      early: { couponId: early, userId: "new", requestId: "" },
      ended: { couponId: ended, userId: "new", requestId: "" },
      unknown: { couponId: "01890000-0000-7000-8000-000000000000", userId: "new", requestId: "" },
      "a request id of somebody else": { ...holder, userId: "thief" },
    };
    const ask = async () => {
      const answers: Record<string, string> = {};
      for (const [name, want] of Object.entries(asked)) answers[name] = await outcomeOf(client, want);
      return answers;
    };
    const expected = {
      "another request of a holder": "ALREADY_ISSUED",
      "a holder without a request id": "ALREADY_ISSUED",
      "a holder of a sold-out coupon": "ALREADY_ISSUED",
      "a late one": "SOLD_OUT",
      paused: "COUPON_PAUSED",
      early: "COUPON_NOT_STARTED",
      ended: "COUPON_ENDED",
      unknown: "COUPON_NOT_FOUND",
      "a request id of somebody else": "REQUEST_ID_REUSED",
    };
    const atFirst = await ask();
    expect(atFirst).toMatchObject(expected);
    for (const [name, answer] of Object.entries(atFirst))
      if (name.startsWith("replay")) expect(answer).toMatch(/^REPLAYED /);
    // A second time, from the gate's copy of every coupon that could be loaded.
    await until("the gate has them", async () => {
      const redis = new Redis(redisUrl);
      const loaded = await redis.keys(`${stores.keyPrefix}:*:coupon`);
      redis.disconnect();
      if (loaded.length >= 5) return true;
      await ask();
      return false;
    });
    expect(await ask()).toEqual(atFirst);
    return { ask, atFirst };
  }

  test("while it is killed and started again", async () => {
    const { ask, atFirst } = await questions();
    const pid = own.redisPid as number;
    process.kill(pid, "SIGKILL");
    let rounds = 0;
    while (own.redisPid === pid || rounds < 3) {
      expect(await ask()).toEqual(atFirst);
      rounds += 1;
    }
    expect(await ask()).toEqual(atFirst);
  });

  test("while it is frozen", async () => {
    const { ask, atFirst } = await questions();
    const pid = own.redisPid as number;
    onTestFinished(() => void process.kill(pid, "SIGCONT"));
    process.kill(pid, "SIGSTOP");
    for (let round = 0; round < 2; round++) expect(await ask()).toEqual(atFirst);
    process.kill(pid, "SIGCONT");
    for (let round = 0; round < 3; round++) expect(await ask()).toEqual(atFirst);
  });

  test("without it from the start", async () => {
    const [client] = await start(1, "redis://127.0.0.1:1");
    if (!client) throw new Error("no replica");
    const couponId = await createCoupon(client, 300);
    const tally = await issueToAll(wants(couponId, "user", 400), { clients: [client], inFlight: 100 });
    expect(tally.acknowledged.size).toBe(300);
    expect(tally.count("SOLD_OUT")).toBe(100);
    expect(await missing(audit, tally)).toEqual([]);
  });
});
