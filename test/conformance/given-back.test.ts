import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  anyRequest,
  bucketHeadBytes,
  leastBuckets,
  packHoldings,
  userHash,
} from "../../src/reservation/packed-holdings.js";
import type { GateFacts, GateRequest, Settlement } from "../../src/reservation/port.js";
import {
  holdingOf,
  implementations,
  load,
  openFacts,
  requestOf,
  type Subject,
  startRedisSubject,
} from "./implementations.js";

type Given = "FREE" | "RETURN";
const outcomes = [
  { outcome: "FREE" as const, back: 0, what: "gives up" },
  { outcome: "RETURN" as const, back: 1, what: "puts back into stock" },
];

describe.each(implementations)("$name, what users have given back", ({ start }) => {
  let subject: Subject;
  let couponId: string;

  beforeEach(async () => {
    subject = await start();
    couponId = randomUUID();
  });
  afterEach(() => subject.close());

  const facts = (changed: Partial<GateFacts> = {}) => openFacts(subject.now(), changed);
  const request = (userId: string, requestId = "") => requestOf(couponId, userId, requestId);
  const outcomeOf = async (one: GateRequest) => (await subject.gate.admit(one)).outcome;
  const settle = (one: GateRequest, outcome: Given | "RELEASE") => subject.gate.settle([{ ...one, outcome }]);
  const confirm = (one: GateRequest) => subject.gate.settle([{ ...one, outcome: "CONFIRM", validUntil: null }]);
  const reserved = async (userId: string, requestId = ""): Promise<GateRequest> => {
    const one = request(userId, requestId);
    expect(await outcomeOf(one)).toBe("RESERVED");
    return one;
  };
  const surveyed = async () => (await subject.gate.survey(1_000, 1_000)).find((one) => one.couponId === couponId);
  const stock = async () => (await surveyed())?.loaded?.stock;

  describe.each(outcomes)("$outcome $what", ({ outcome, back }) => {
    test.each(["loaded", "confirmed"] as const)(
      "a user coupon that was %s: its user may have another one",
      async (how) => {
        const one = request("u", "r");
        await load(subject, couponId, facts(), how === "loaded" ? [holdingOf(one)] : []);
        if (how === "confirmed") {
          await subject.gate.admit(one);
          await confirm(one);
        }
        const before = (await stock()) as number;
        expect(await outcomeOf(request("u"))).toBe("ALREADY_ISSUED");
        await settle(one, outcome);
        expect(await stock()).toBe(before + back);
        // Postgres knows what became of the request.
        const again = request("u", "r");
        expect(await outcomeOf(again)).toBe("RESERVED");
        await settle(again, "RELEASE");
        await confirm(request("u", "other"));
        const said = [
          await outcomeOf(request("u", "r")),
          await outcomeOf(request("u", "new")),
          await outcomeOf(request("u")),
        ];
        expect(said).toEqual(["GIVEN_BACK", "ALREADY_ISSUED", "ALREADY_ISSUED"]);
      },
    );

    test("what had no request id is not asked for", async () => {
      const [one, other] = [request("u"), request("v", "r")];
      await load(subject, couponId, facts({ stock: 0 }), [holdingOf(one), holdingOf(other)]);
      await settle(one, "FREE");
      expect([await outcomeOf(request("u")), await outcomeOf(request("u", "new"))]).toEqual(["SOLD_OUT", "SOLD_OUT"]);
    });

    test.each([true, false])(
      "during a load: its request is known afterwards, whether it had read the holder (%s)",
      async (isRead) => {
        const one = request("u", "r");
        const loading = await subject.gate.beginLoad(couponId);
        await loading?.addHoldings(packHoldings(isRead ? [holdingOf(one)] : []));
        if (!isRead) await confirm(one);
        await settle(one, outcome);
        expect(await loading?.install(facts({ paused: true }))).toBe(true);
        expect([await outcomeOf(request("u", "r")), await outcomeOf(request("v", "r"))]).toEqual([
          "GIVEN_BACK",
          "COUPON_PAUSED",
        ]);
      },
    );

    test("once, however often it comes", async () => {
      const one = request("u");
      await load(subject, couponId, facts(), [holdingOf(one)]);
      for (let n = 0; n < 3; n++) await settle(one, outcome);
      await subject.gate.settle([
        { ...one, outcome },
        { ...one, outcome },
      ]);
      expect(await stock()).toBe(10 + back);
    });

    test("nothing for a holder that is not known", async () => {
      await load(subject, couponId, facts(), [holdingOf(request("u"))]);
      await settle(request("u"), outcome);
      await settle(request("v"), outcome);
      expect(await stock()).toBe(10);
      expect(await outcomeOf(request("u"))).toBe("ALREADY_ISSUED");
    });

    test("one of several that a user holds, and no other", async () => {
      const [a, b] = [request("u", "ra"), request("u", "rb")];
      await load(subject, couponId, facts({ maxPerUser: 2 }), [holdingOf(a), holdingOf(b)]);
      await settle(a, outcome);
      expect(await outcomeOf(request("u", "rb"))).toBe("REPLAY");
      expect(await outcomeOf(request("u"))).toBe("RESERVED");
    });

    test("a reservation whose confirmation has not arrived yet", async () => {
      await load(subject, couponId, facts());
      const one = await reserved("u");
      expect(await stock()).toBe(9);
      await settle(one, outcome);
      expect(await surveyed()).toMatchObject({ loaded: { stock: 9 + back }, pendingCount: 0 });
      await settle(one, "RELEASE");
      expect(await stock()).toBe(9 + back);
    });

    test.each(["let through", "issued past the gate"])(
      "before the confirmation of one that was %s: that was held up, and is void",
      async (how) => {
        await load(subject, couponId, facts());
        const one = how === "let through" ? await reserved("u") : request("u");
        await settle(one, outcome);
        const before = await stock();
        for (let n = 0; n < 2; n++) await confirm(one);
        expect(await surveyed()).toMatchObject({ loaded: { stock: before }, pendingCount: 0 });
        expect(await outcomeOf(request("u"))).toBe("RESERVED");
      },
    );

    test.each([true, false])(
      "during a load before its confirmation, which is void during it and afterwards (a copy is there: %s)",
      async (isKnown) => {
        if (isKnown) await load(subject, couponId, facts());
        const one = request("u");
        const loading = await subject.gate.beginLoad(couponId);
        await settle(one, outcome);
        await confirm(one);
        expect(await loading?.install(facts())).toBe(true);
        await confirm(one);
        expect(await stock()).toBe(10);
        expect(await outcomeOf(request("u"))).toBe("RESERVED");
      },
    );

    test("of an unlimited coupon there is no stock to count", async () => {
      const one = request("u");
      await load(subject, couponId, facts({ stock: null }), [holdingOf(one)]);
      await settle(one, outcome);
      expect(await stock()).toBeNull();
      expect(await outcomeOf(request("u"))).toBe("RESERVED");
    });

    test("of a coupon that is not known nothing but the reservation ends", async () => {
      await load(subject, couponId, facts());
      const one = await reserved("u");
      await subject.gate.invalidate(couponId);
      await settle(one, outcome);
      expect(await surveyed()).toBeUndefined();
      expect(await outcomeOf(request("u"))).toBe("NOT_LOADED");
    });

    test.each([true, false])("during a load counts once, whether it had read the holder (%s)", async (isRead) => {
      const one = request("u", "r");
      const loading = await subject.gate.beginLoad(couponId);
      const holdings = [holdingOf(request("v")), ...(isRead ? [holdingOf(one)] : [])];
      expect(await loading?.addHoldings(packHoldings(holdings))).toBe(true);
      for (let n = 0; n < 2; n++) await settle(one, outcome);
      expect(await loading?.install(facts())).toBe(true);
      expect(await stock()).toBe(10 + (isRead ? back : 0));
      expect([await outcomeOf(request("u", "r")), await outcomeOf(request("v"))]).toEqual([
        "RESERVED",
        "ALREADY_ISSUED",
      ]);
    });

    test.each([true, false])("during a load in which it was issued, too, which had read it (%s)", async (isRead) => {
      const [one, other] = [request("u"), request("u")];
      const loading = await subject.gate.beginLoad(couponId);
      await loading?.addHoldings(packHoldings(isRead ? [holdingOf(one)] : []));
      await confirm(one);
      await settle(one, outcome);
      await confirm(other);
      expect(await loading?.install(facts())).toBe(true);
      expect(await stock()).toBe(10 + back - 1 - (isRead ? 0 : 1));
      expect(await outcomeOf(request("u"))).toBe("ALREADY_ISSUED");
    });

    test("during a load of a coupon that is known counts in both", async () => {
      const one = request("u");
      await load(subject, couponId, facts(), [holdingOf(one)]);
      const loading = await subject.gate.beginLoad(couponId);
      await loading?.addHoldings(packHoldings([holdingOf(one)]));
      await settle(one, outcome);
      expect(await surveyed()).toMatchObject({ loaded: { revision: 1, stock: 10 + back } });
      expect(await loading?.install(facts({ revision: 2 }))).toBe(true);
      expect(await surveyed()).toMatchObject({ loaded: { revision: 2, stock: 10 + back } });
      expect(await outcomeOf(request("u"))).toBe("RESERVED");
    });

    test("during a load is not the next load's", async () => {
      const one = request("u");
      const loading = await subject.gate.beginLoad(couponId);
      await settle(one, outcome);
      await loading?.install(facts());
      await load(subject, couponId, facts(), [holdingOf(one)]);
      expect([await stock(), await outcomeOf(request("u"))]).toEqual([10, "ALREADY_ISSUED"]);
    });

    test("a confirmation in the same call is not lost to the next load", async () => {
      const [gone, kept] = [request("u"), request("v")];
      await load(subject, couponId, facts(), [holdingOf(gone)]);
      const settlements: Settlement[] = [
        { ...gone, outcome },
        { ...kept, outcome: "CONFIRM", validUntil: null },
      ];
      await subject.gate.settle(settlements);
      expect(await stock()).toBe(9 + back);
      expect([await outcomeOf(request("u")), await outcomeOf(request("v"))]).toEqual(["RESERVED", "ALREADY_ISSUED"]);
    });
  });

  describe("numbered", () => {
    const give = (...numbers: number[]) =>
      subject.gate.settle(numbers.map((givenBackNo) => ({ ...request("u"), outcome: "FREE", givenBackNo })));
    const heardTo = async () => (await surveyed())?.loaded?.givenBackTo;

    test("in any order, and however often: the copy knows up to where it has missed none", async () => {
      await load(subject, couponId, facts({ givenBackTotal: 4 }));
      expect(await heardTo()).toBe(4);
      for (const [numbers, to] of [
        [[4, 1], 4],
        [[5], 5],
        [[5, 5], 5],
        [[9, 7, 8], 5],
        [[12, 7], 5],
        [[6], 9],
        [[11], 9],
        [[10, 10, 13], 13],
      ] as const) {
        await give(...numbers);
        expect(await heardTo()).toBe(to);
      }
    });

    test("a settlement without a number, or of another kind, is nothing that was given back", async () => {
      const one = request("u");
      await load(subject, couponId, facts(), [holdingOf(one)]);
      await settle(one, "FREE");
      const two = await reserved("v");
      await settle(two, "RELEASE");
      expect(await heardTo()).toBe(0);
    });

    test("one that is missing among thousands is found, and the others are known when it comes", async () => {
      await load(subject, couponId, facts());
      const numbers = Array.from({ length: 3_000 }, (_, n) => n + 2);
      await give(...numbers.slice(2_000), ...numbers.slice(0, 2_000));
      expect(await heardTo()).toBe(0);
      await give(1);
      expect(await heardTo()).toBe(3_001);
    });

    test("during a load: those that it has read are part of it, later ones count", async () => {
      const loading = await subject.gate.beginLoad(couponId);
      await give(3, 5, 4, 7);
      expect(await loading?.install(facts({ givenBackTotal: 4 }))).toBe(true);
      expect(await heardTo()).toBe(5);
      await give(6);
      expect(await heardTo()).toBe(7);
    });
  });

  test("a request whose user coupon has made room for another one, for it had expired, is known", async () => {
    const expired = holdingOf(request("u", "r"), new Date(subject.now() - 1));
    await load(subject, couponId, facts(), [expired]);
    expect(await outcomeOf(request("u", "r"))).toBe("REPLAY");
    await confirm(await reserved("u", "other"));
    expect([await outcomeOf(request("u", "r")), await outcomeOf(request("u", "new"))]).toEqual([
      "GIVEN_BACK",
      "ALREADY_ISSUED",
    ]);
  });

  test("of requests that are known twice, or issued again, nothing is lost", async () => {
    const one = request("u", "r");
    await load(subject, couponId, facts(), [holdingOf(one)], [one]);
    await settle(one, "FREE");
    await confirm({ ...request("u", "r") });
    expect(await outcomeOf(request("u", "r"))).toBe("REPLAY");
    await load(subject, couponId, facts({ paused: true }), [], [one, one]);
    expect(await outcomeOf(request("u", "r"))).toBe("GIVEN_BACK");
  });

  test("one user who gives back again and again: each request is known, and all that others are told is what it was", async () => {
    await load(subject, couponId, facts());
    for (let n = 0; n < 300; n++) {
      const one = await reserved("u", `r${n}`);
      await settle(one, "RETURN");
    }
    const held = await reserved("u");
    await confirm(held);
    for (const n of [0, 150, 299]) expect(await outcomeOf(request("u", `r${n}`))).toBe("GIVEN_BACK");
    // So many are not told apart any more: of any other request it is not known whether it is one of them.
    expect(await outcomeOf(request("u", "of nobody"))).toBe("GIVEN_BACK");
    expect(await outcomeOf(request("u"))).toBe("ALREADY_ISSUED");
    await settle(held, "RETURN");
    expect([await stock(), await outcomeOf(request("u", "r0"))]).toEqual([10, "RESERVED"]);
  });

  test("a load that reads of too many requests to tell them apart: of any one of the bucket's it is not known", async () => {
    const head = Buffer.alloc(bucketHeadBytes);
    head.writeUInt32BE(userHash("u") % leastBuckets);
    head.writeUInt32BE(anyRequest.length, 4);
    const loading = await subject.gate.beginLoad(couponId);
    expect(await loading?.addHoldings([Buffer.concat([head, anyRequest])])).toBe(true);
    expect(await loading?.install(facts({ paused: true }))).toBe(true);
    expect(await outcomeOf(request("u", "r"))).toBe("GIVEN_BACK");
    expect(await outcomeOf(request("u"))).toBe("COUPON_PAUSED");
    expect(await outcomeOf(request("of another bucket", "r"))).toBe("COUPON_PAUSED");
  });

  test("RELEASE and CONFIRM do not cancel a load", async () => {
    await load(subject, couponId, facts());
    const [a, b] = [await reserved("a"), await reserved("b")];
    const loading = await subject.gate.beginLoad(couponId);
    await settle(a, "RELEASE");
    await confirm(b);
    expect(await loading?.install(facts())).toBe(true);
  });

  test("stock that came back goes to the next one who asks, after it had been sold out", async () => {
    const one = request("u");
    await load(subject, couponId, facts({ stock: 0 }), [holdingOf(one)]);
    expect(await outcomeOf(request("v"))).toBe("SOLD_OUT");
    await settle(one, "FREE");
    expect(await outcomeOf(request("v"))).toBe("SOLD_OUT");
    const two = request("w");
    await confirm(two);
    expect(await stock()).toBe(-1);
    await settle(two, "RETURN");
    expect(await outcomeOf(request("v"))).toBe("SOLD_OUT");
    await load(subject, couponId, facts({ stock: 0 }), [holdingOf(two)]);
    await settle(two, "RETURN");
    expect([await outcomeOf(request("v")), await outcomeOf(request("x"))]).toEqual(["RESERVED", "UNDECIDED"]);
  });
});

test("in Redis, what has been given back takes bounded room in a bucket", async () => {
  const subject = await startRedisSubject();
  const couponId = randomUUID();
  await load(subject, couponId, openFacts(subject.now()));
  const key = `${subject.keyPrefix}:{${couponId}}:holders`;
  const sizes: number[] = [];
  for (let n = 0; n < 3; n++) {
    const given = Array.from({ length: 100 }, (_, at) => requestOf(couponId, "u", `r${n * 100 + at}`));
    await subject.gate.settle(given.map((one) => ({ ...one, outcome: "FREE" })));
    const [bucket] = (await subject.redis.hvals(key)).sort((a, b) => b.length - a.length);
    sizes.push(Buffer.byteLength(bucket ?? "", "latin1"));
  }
  await subject.close();
  expect(sizes[0]).toBeGreaterThan(1_000);
  // One entry stands for all.
  expect(sizes.slice(1)).toEqual([sizes[1], sizes[1]]);
  expect(sizes[1]).toBeLessThan(50);
});
