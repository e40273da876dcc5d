import { expect, test } from "vitest";
import { type Ending, Ledger } from "../../demo/ledger.js";

/** One user's two requests, as they ended. */
function ledgerOf(first: Ending, second: Ending): Ledger {
  const plan = { count: 2, userOf: Uint32Array.of(0, 0), intentOf: Uint32Array.of(0, 1), users: 1, dueMs: () => 0 };
  const ledger = new Ledger(plan, (user) => `user ${user}`);
  for (const [request, ending] of [first, second].entries()) ledger.note(request, ending, ledger.owed(request));
  ledger.close();
  return ledger;
}

test("who was left without a clear answer may hold one", () => {
  const ledger = ledgerOf({ refusal: "INTERNAL" }, { refusal: "ALREADY_ISSUED" });
  expect([ledger.contradictions, ledger.counts.errors, ledger.takeUnclear()]).toEqual([0, 1, [0]]);
});

test("who was told no, and clearly, holds none", () => {
  const ledger = ledgerOf({ refusal: "SOLD_OUT" }, { refusal: "ALREADY_ISSUED" });
  expect([ledger.contradictions, ledger.counts.errors, ledger.takeUnclear()]).toEqual([1, 0, []]);
});

test("when somebody was first told that there are none left is noted", () => {
  const before = Date.now();
  const { firstSoldOutAtMs } = ledgerOf({ refusal: "ALREADY_ISSUED" }, { refusal: "SOLD_OUT" });
  expect(firstSoldOutAtMs).toBeGreaterThanOrEqual(before);
  expect(ledgerOf({ refusal: "ALREADY_ISSUED" }, { refusal: "INTERNAL" }).firstSoldOutAtMs).toBeNull();
});
