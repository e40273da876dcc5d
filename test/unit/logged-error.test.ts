import { DrizzleQueryError } from "drizzle-orm/errors";
import { expect, test } from "vitest";
import { loggedError } from "../../src/platform/telemetry/logged-error.js";

test("an error of a statement is logged without its values", () => {
  const cause = Object.assign(new Error("violates a check"), {
    code: "23514",
    detail: "Failing row contains (ada).",
    query: "INSERT",
    table_name: "coupons",
  });
  const logged = loggedError(new DrizzleQueryError("INSERT INTO coupons VALUES ($1)", ["ada"], cause));
  expect(logged).toMatchObject({ message: "violates a check", code: "23514", table_name: "coupons" });
  expect(JSON.stringify(logged)).not.toContain("ada");
});

test("any other error is logged with its cause, and what is none as it is", () => {
  const logged = loggedError(new Error("outer", { cause: new Error("inner") })) as { message: string; stack: string };
  expect(logged.message).toBe("outer: inner");
  expect(logged.stack).toContain("caused by: Error: inner");
  expect(loggedError("text")).toBe("text");
});
