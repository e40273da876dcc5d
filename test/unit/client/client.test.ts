import { readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, test } from "vitest";
import * as contract from "../../../clients/typescript/src/contract.js";
import {
  createCouponClient,
  formatMoney,
  isRefusal,
  money,
  pages,
  reasonOf,
  services,
} from "../../../clients/typescript/src/node.js";
import { createCouponClient as createWebClient } from "../../../clients/typescript/src/web.js";
import { packageRoot } from "../../../src/platform/package-root.js";

test("the client has all of the contract", async () => {
  const folder = join(packageRoot(), "gen/coupon/v1");
  // The rules that fields share are for the service, and need protovalidate.
  const files = readdirSync(folder).filter((file) => file.endsWith("_pb.ts") && file !== "rules_pb.ts");
  expect(files.length).toBeGreaterThan(10);
  const there = contract as Record<string, unknown>;
  for (const file of files) {
    const generated = (await import(pathToFileURL(join(folder, file)).href)) as Record<string, unknown>;
    const missing = Object.keys(generated).filter((name) => there[name] !== generated[name]);
    expect(missing, `to fix: export gen/coupon/v1/${file} in clients/typescript/src/contract.ts`).toEqual([]);
  }
  const declared = Object.values(there).filter((value) => (value as { kind?: string }).kind === "service");
  expect(new Set(Object.values(services)), "to fix: add it to clients/typescript/src/services.ts").toEqual(
    new Set(declared),
  );
});

describe("options that are wrong are named", () => {
  const baseUrl = "http://localhost:1";
  const cases: [string, object, RegExp][] = [
    ["no address", { baseUrl: "localhost:50051" }, /baseUrl/],
    ["a password in it", { baseUrl: "http://a:b@localhost" }, /credentials/],
    ["no time", { baseUrl, timeoutMs: 0 }, /timeoutMs/],
    ["too many tries", { baseUrl, retries: { attempts: 11 } }, /retries\.attempts/],
    ["half a retry", { baseUrl, retries: { budget: 0.5 } }, /retries\.budget/],
    ["a key with a line end", { baseUrl, credentials: { apiKey: "ck_a\n" } }, /credentials\.apiKey/],
    ["an unknown protocol", { baseUrl, protocol: "soap" }, /protocol/],
  ];
  test.for(cases)("%s", ([, options, named]) => {
    expect(() => createCouponClient(options as never)).toThrow(named);
    expect(() => createWebClient(options as never)).toThrow(named);
  });
});

test("pages are read one after the other, and only as far as somebody goes", async () => {
  const asked: string[] = [];
  const all: Record<string, { items: number[]; nextPageToken: string }> = {
    "": { items: [1, 2], nextPageToken: "a" },
    a: { items: [], nextPageToken: "b" },
    b: { items: [3], nextPageToken: "" },
  };
  const list = async ({ pageToken = "" }: { pageToken?: string; pageSize?: number }) => {
    asked.push(pageToken);
    return all[pageToken] as { items: number[]; nextPageToken: string };
  };
  const found: number[] = [];
  for await (const item of pages(list, { pageSize: 2 })) found.push(item);
  expect([found, asked]).toEqual([
    [1, 2, 3],
    ["", "a", "b"],
  ]);
  asked.length = 0;
  for await (const _ of pages(list, {})) break;
  expect(asked).toEqual([""]);
  const circling = async () => ({ items: [1], nextPageToken: "a" });
  const goThrough = async () => {
    for await (const _ of pages(circling, {}));
  };
  await expect(goThrough()).rejects.toThrow("names itself");
});

test("amounts are written in major units", () => {
  const cases: [string, string, bigint][] = [
    ["12.50", "USD", 1250n],
    ["0.05", "USD", 5n],
    ["1250", "JPY", 1250n],
    ["1.250", "KWD", 1250n],
    ["100.00", "HUF", 10000n],
    ["1000.000", "IQD", 1000000n],
    ["1.0000", "UYW", 10000n],
    ["9999999999999.99", "EUR", 999999999999999n],
  ];
  for (const [amount, currency, minorUnits] of cases) {
    expect(money(amount, currency).minorUnits).toBe(minorUnits);
    expect(formatMoney({ minorUnits, currencyCode: currency })).toBe(`${amount} ${currency}`);
  }
  for (const wrong of ["12.505", "-1", "1e3", ".5", ""]) expect(() => money(wrong, "USD")).toThrow(RangeError);
});

test("reasons of items have names, and other errors are no refusals", () => {
  expect(reasonOf({ reason: contract.ErrorReason.SOLD_OUT })).toBe("SOLD_OUT");
  expect(isRefusal(new Error("SOLD_OUT"))).toBe(false);
});
