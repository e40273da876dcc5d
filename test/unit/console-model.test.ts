import { describe, expect, test } from "vitest";
import { formatMoney } from "../../clients/typescript/src/money.js";
import { money, percent, span } from "../../console/model/format.js";
import { problemFrom } from "../../console/model/problem.js";
import { ActivityHistory, quantile, StockHistory, soldOutInS } from "../../console/model/sale.js";
import { read, repositoryFiles } from "../tidy/sources.js";

test("a rate is what was issued lately, and says when all is gone", () => {
  const history = new StockHistory();
  const add = (atS: number, issued: number) =>
    history.add(atS, { id: "a", quantity: "100", issuedCount: `${issued}`, remainingCount: `${100 - issued}` });
  expect(add(100, 0)).toBe(true);
  expect(history.rate).toBeNull();
  expect(add(102, 0)).toBe(false);
  expect(history.rate).toBe(0);
  expect(add(104, 20)).toBe(true);
  expect(history.rate).toBe(5);
  add(110, 50);
  expect(history.rate).toBe(5);
  expect(soldOutInS(50, 5)).toBe(10);
  // What was given back is not issued backwards.
  add(112, 40);
  expect(history.points.at(-1)?.rate).toBe(0);
  expect([soldOutInS(null, 5), soldOutInS(0, 5), soldOutInS(5, 0), soldOutInS(5, null)]).toEqual([
    null,
    null,
    null,
    null,
  ]);
});

describe("what became of requests", () => {
  const activity = (replicaId: string, ok: number, soldOut: number, latencies: number[]) => ({
    ...{ replicaId, sinceTime: "2026-01-01T00:00:00Z" },
    outcomes: [{ count: `${ok}` }, { reason: "ERROR_REASON_SOLD_OUT", count: `${soldOut}` }],
    latencies: latencies.map((count, at) => ({ count: `${count}`, ...(at < 2 && { atMost: `${(at + 1) / 10}s` }) })),
  });

  test("is counted since the page was opened, over all replicas that have answered", () => {
    const history = new ActivityHistory();
    // What was before the page was opened is no news.
    expect(history.add(10, activity("a", 1_000, 500, [1_500, 0, 0]))).toBe(false);
    history.add(11, activity("b", 7, 7, [14, 0, 0]));
    expect(history.totals.size).toBe(0);
    expect(history.add(12, activity("a", 1_010, 506, [1_508, 8, 0]))).toBe(true);
    history.add(13, activity("b", 9, 7, [14, 2, 0]));
    expect(Object.fromEntries(history.totals)).toEqual({ "": 12, SOLD_OUT: 6 });
    expect(history.replicaCount).toBe(2);
    expect(history.points.at(-1)).toMatchObject({ answeredRate: 6, refusedRate: 3 });
  });

  test("begins anew with a replica that has lost sight of the coupon", () => {
    const history = new ActivityHistory();
    history.add(10, activity("a", 1_000, 0, [1_000, 0, 0]));
    history.add(12, activity("a", 3, 1, [4, 0, 0]));
    expect(Object.fromEntries(history.totals)).toEqual({ "": 3, SOLD_OUT: 1 });
  });

  test("quantiles lie in their range, and in no range that has no end", () => {
    expect(quantile([100, 200, Number.POSITIVE_INFINITY], [0, 0, 0], 0.5)).toBeNull();
    expect(quantile([100, 200, Number.POSITIVE_INFINITY], [10, 10, 0], 0.75)).toBe(150);
    expect(quantile([100, 200, Number.POSITIVE_INFINITY], [1, 0, 9], 0.99)).toBe(200);
  });
});

test("a share that is not all is not shown as all, nor what is something as nothing", () => {
  expect([0, 0.0004, 0.0456, 0.5, 0.996, 0.9996, 1].map(percent)).toEqual([
    ...["0 %", "< 0.1 %", "4.6 %", "50 %", "99 %", "> 99.9 %", "100 %"],
  ]);
  expect([0, 119, 150, 7_800, 172_800].map(span)).toEqual(["0 s", "119 s", "3 min", "2 h 10 min", "2 days"]);
});

test("an amount has the digits of ISO 4217, as the client has it", () => {
  for (const currencyCode of ["HUF", ...Intl.supportedValuesOf("currency")]) {
    const [amount] = formatMoney({ minorUnits: 12_345n, currencyCode }).split(" ");
    const shown = money({ currencyCode, minorUnits: "12345" });
    expect(shown.replaceAll(",", ""), shown).toMatch(new RegExp(`(^|[^\\d.])${amount?.replace(".", "\\.")}$`));
  }
  expect(money({ currencyCode: "HUF", minorUnits: "12345" })).toContain("123.45");
});

describe("what a refused call says", () => {
  // google.rpc.ErrorInfo, as the service sends it.
  const details = [{ type: "google.rpc.ErrorInfo", value: "ChBDT1VQT05fTk9UX0ZPVU5EEgljb3Vwb24udjE" }];
  test("is its reason in words", () => {
    const problem = problemFrom(404, { code: "not_found", message: "there is no such coupon", details });
    expect(problem.reason).toBe("COUPON_NOT_FOUND");
    expect(problem.words).toContain("no such coupon");
  });
  test.each([
    [503, undefined, "NO_ANSWER"],
    [404, { code: "unimplemented" }, "UNIMPLEMENTED"],
    [418, "<html>", "HTTP 418"],
    [500, { details: [{ type: "google.rpc.ErrorInfo", value: "\u0000!" }], code: "internal" }, "INTERNAL"],
    [500, { details: [{ type: "google.rpc.ErrorInfo", value: "CgNB" }], code: "internal" }, "INTERNAL"],
    [500, { details: "none" }, "HTTP 500"],
  ])("%s %j is %s", (status, body, reason) => {
    expect(problemFrom(status, body).reason).toBe(reason);
  });
});

test("nothing of the page reads texts as HTML", () => {
  const files = repositoryFiles().filter((path) => /^console\/.*\.ts$/.test(path));
  expect(files.length).toBeGreaterThan(10);
  const wrong = files.filter((path) =>
    /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b/.test(read(path)),
  );
  expect(wrong).toEqual([]);
});
