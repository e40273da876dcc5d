import { expect, test } from "vitest";
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
