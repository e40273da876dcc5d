import { describe, expect, test } from "vitest";
import { type Reason, Refusal } from "../../../src/domain/refusal.js";
import type { Issuer } from "../../../src/issuing/issuer.js";
import { TypeIssuer } from "../../../src/issuing/type-issuer.js";
import type { TargetStore } from "../../../src/storage/ports/issues.js";

/** Which coupon of a type a call tries first, and how often it is asked which there are. */

const farMs = Date.now() + 3_600_000;

function openTypeIssuer(first: { couponId: string }) {
  const seen = { reads: 0 };
  /** What the next reads wait for. */
  const gate = { opened: Promise.resolve() };
  const issuer = {
    issue: async ({ couponId }: { couponId: string }) => ({ couponId }),
  } as unknown as Issuer;
  const store = {
    findEarlierIssue: async () => null,
    listIssuable: async () => {
      seen.reads += 1;
      const { couponId } = first;
      await gate.opened;
      return [couponId];
    },
  } as unknown as TargetStore;
  const typeIssuer = new TypeIssuer(issuer, store);
  const issue = async () => {
    const request = { type: "FREE" as const, userId: "u", requestId: "", labels: null };
    return ((await typeIssuer.issue(request, farMs)) as unknown as { couponId: string }).couponId;
  };
  return { typeIssuer, issue, seen, gate };
}

test("what this replica has changed is known to the next call, and no call reads more for that", async () => {
  const first = { couponId: "old" };
  const { typeIssuer, issue, seen } = openTypeIssuer(first);
  expect(await issue()).toBe("old");
  first.couponId = "new";
  typeIssuer.forget();
  expect(await issue()).toBe("new");
  for (let n = 0; n < 20; n++) await issue();
  expect(seen.reads).toBe(2);
});

test("a list that was being read when something changed is not remembered", async () => {
  const first = { couponId: "old" };
  const { typeIssuer, issue, gate } = openTypeIssuer(first);
  let open = () => {};
  gate.opened = new Promise((resolve) => {
    open = resolve;
  });
  const early = issue();
  // It has read, and its answer is on the way.
  await new Promise((resolve) => setImmediate(resolve));
  first.couponId = "new";
  typeIssuer.forget();
  open();
  expect(await early).toBe("old");
  expect(await issue()).toBe("new");
});

describe("of two coupons of a type", () => {
  /** What is said of each; asked for by the request "r", which issues `earlier` at the same moment, if that is set. */
  function openTwo(says: Record<string, Reason>, earlier?: string) {
    const asked: string[] = [];
    let isThere = false;
    const issuer = {
      issue: async ({ couponId }: { couponId: string }) => {
        asked.push(couponId);
        if (isThere) return { couponId };
        isThere = earlier !== undefined;
        return says[couponId] ? new Refusal(says[couponId]) : { couponId };
      },
    } as unknown as Issuer;
    const store = {
      findEarlierIssue: async () => (isThere ? { couponId: earlier, userId: "u", type: "FREE" } : null),
      listIssuable: async () => ["a", "b"],
    } as unknown as TargetStore;
    const request = { type: "FREE" as const, userId: "u", requestId: "r", labels: null };
    return { asked, issue: () => new TypeIssuer(issuer, store).issue(request, farMs) };
  }

  test("the second is tried when the first is sold out, and each once", async () => {
    const one = openTwo({ a: "SOLD_OUT" });
    expect(await one.issue()).toEqual({ couponId: "b" });
    const none = openTwo({ a: "ALREADY_ISSUED", b: "SOLD_OUT" });
    expect(await none.issue()).toMatchObject({ reason: "SOLD_OUT" });
    expect(none.asked).toEqual(["a", "b"]);
  });

  test("the second is not tried when what became of the first is not known", async () => {
    const { issue, asked } = openTwo({ a: "STORE_UNAVAILABLE" });
    expect(await issue()).toMatchObject({ reason: "STORE_UNAVAILABLE" });
    expect(asked).toEqual(["a"]);
  });

  test("the one that the same request got at the same moment is answered", async () => {
    const { issue, asked } = openTwo({ a: "REQUEST_ID_REUSED" }, "b");
    expect(await issue()).toEqual({ couponId: "b" });
    expect(asked).toEqual(["a", "b"]);
  });
});
