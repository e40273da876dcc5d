import { beforeEach, expect, test } from "vitest";
import { type ErrorReport, ErrorReports } from "../../src/storage/postgres/error-report.js";

let nowMs: number;
let reported: ErrorReport[];
let counted: string[];
let reports: ErrorReports;

beforeEach(() => {
  nowMs = 1_000_000;
  reported = [];
  counted = [];
  reports = new ErrorReports(
    (report) => void reported.push(report),
    (code) => void counted.push(code),
    () => nowMs,
  );
});

const errorOf = (code: string, message = "said the server") => Object.assign(new Error(message), { code });

test("one report of each kind and minute, with how many there were", () => {
  reports.note(errorOf("57014"), true);
  reports.note(errorOf("57014"), true);
  reports.note(errorOf("55P03"), false);
  nowMs += 59_999;
  reports.note(errorOf("57014"), false);
  expect(reported.map(({ code, count, lateCount }) => [code, count, lateCount])).toEqual([
    ["57014", 1, 1],
    ["55P03", 1, 0],
  ]);
  expect(counted).toEqual(["57014", "57014", "55P03", "57014"]);
  nowMs += 1;
  reports.note(errorOf("57014", "the latest"), true);
  expect(reported.slice(2)).toEqual([{ code: "57014", count: 3, lateCount: 2, message: "Error: the latest" }]);
});

test("what was not reported yet is, at the end", () => {
  for (let n = 0; n < 3; n++) reports.note(errorOf("40P01"), false);
  reports.flush();
  reports.flush();
  expect(reported.map(({ count }) => count)).toEqual([1, 2]);
});

test("Drizzle's own message, which repeats the values of the statement, is not repeated", () => {
  const error = new Error("Failed query: SELECT $1 params: secret", { cause: errorOf("57P01") });
  reports.note(error, true);
  expect(reported).toEqual([{ code: "57P01", count: 1, lateCount: 1, message: "Error: said the server" }]);
});

test("an error of our own is reported only when its caller has gone", () => {
  reports.note(new Error("ours"), false);
  expect(reported).toEqual([]);
  reports.note(new Error("ours"), true);
  expect(reported).toEqual([{ code: "other", count: 1, lateCount: 1, message: "Error: ours" }]);
});

test("kinds without end are counted as one", () => {
  for (let n = 0; n < 600; n++) reports.note(errorOf(`E${n}`), false);
  reports.flush();
  expect(new Set(reported.map(({ code }) => code)).size).toBe(501);
  expect(reported.reduce((sum, { count }) => sum + count, 0)).toBe(600);
});
