import { expect, test } from "vitest";
import { StoreUnavailable } from "../../src/domain/refusal.js";
import { FailureLog } from "../../src/platform/failure-log.js";
import { WrongFile } from "../../src/platform/watched-files.js";

function opened() {
  const lines: [string, object][] = [];
  let nowMs = 0;
  const failures = new FailureLog({
    log: {
      error: (details) => void lines.push(["error", details]),
      warn: (details) => void lines.push(["warn", details]),
    },
    now: () => nowMs,
  });
  return {
    failures,
    lines,
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

const coded = (code: string) => Object.assign(new Error("no"), { code });

test("each kind of error is reported once until it is over for some seconds, and then how often it was", () => {
  const { failures, lines, pass } = opened();
  for (let n = 0; n < 3; n += 1) {
    failures.failed("load", coded("42P01"), { couponId: `coupon ${n}` });
    failures.failed("load", coded("53300"));
    failures.failed("load", new StoreUnavailable());
    pass(1_000);
  }
  expect(lines.map(([level]) => level)).toEqual(["error", "error", "error"]);
  expect(lines[0]?.[1]).toMatchObject({ work: "load", couponId: "coupon 0", err: { code: "42P01" } });
  failures.succeeded("sweep");
  expect(lines.length).toBe(3);
  failures.succeeded("load");
  failures.failed("load", coded("53300"));
  pass(4_999);
  failures.succeeded("load");
  expect(lines.length).toBe(3);
  pass(1);
  failures.succeeded("load");
  failures.succeeded("load");
  expect(lines.slice(3)).toEqual([["warn", { work: "load", failures: 10, forMs: 3_000 }]]);
  failures.failed("load", coded("42P01"));
  expect(lines.length).toBe(5);
});

test("what an error was caused by makes it another kind", () => {
  const { failures, lines } = opened();
  for (const code of ["ECONNREFUSED", "57P03", "ECONNREFUSED"]) {
    failures.failed("purge", new Error("away", { cause: coded(code) }));
  }
  expect(lines.length).toBe(2);
});

test("what is wrong with a file is reported, and what is wrong with it after that", () => {
  const { failures, lines } = opened();
  for (const what of ["is not JSON", "has no such scope", "is not JSON"])
    failures.failed("reload callers", new WrongFile(`AUTH_CERTIFICATES_FILE: ${what}`));
  expect(lines.length).toBe(2);
});

test("errors that are all different fill neither the log nor the memory", () => {
  const { failures, lines } = opened();
  for (let n = 0; n < 1_000; n += 1) failures.failed("tell", coded(`code ${n}`));
  expect(lines.length).toBe(21);
});
