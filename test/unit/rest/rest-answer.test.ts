import { expect, test } from "vitest";
import { type Reason, Refusal, reasons } from "../../../src/domain/refusal.js";
import { failureOf, internalFailure } from "../../../src/transport/error-table.js";
import { restFailure } from "../../../src/transport/rest/rest-answer.js";

test.for<[Reason, number]>([
  ["INVALID_FIELD", 400],
  ["UNAUTHENTICATED", 401],
  ["PERMISSION_DENIED", 403],
  ["COUPON_NOT_FOUND", 404],
  ["ALREADY_ISSUED", 409],
  ["STALE_REVISION", 409],
  ["SOLD_OUT", 400],
  ["MESSAGE_TOO_LARGE", 413],
  ["RATE_LIMITED", 429],
  ["QUOTA_REACHED", 429],
  ["OVERLOADED", 503],
  ["DEADLINE_EXCEEDED", 504],
])("%s is %i", ([reason, status]) => {
  expect(restFailure(failureOf(new Refusal(reason))).status).toBe(status);
});

test("every reason has a status, and whoever may come again is told when", () => {
  for (const reason of reasons) {
    const failure = failureOf(new Refusal(reason));
    const { status, headers, body } = restFailure(failure);
    expect(status).toBeGreaterThanOrEqual(400);
    const told = JSON.parse(body);
    expect(told.code).toBe(failure.code);
    expect(told.details[0]).toMatchObject({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason });
    const seconds = failure.retryAfterMs === undefined ? undefined : String(Math.ceil(failure.retryAfterMs / 1_000));
    expect(headers["retry-after"]).toBe(seconds);
    expect(headers["www-authenticate"]).toBe(reason === "UNAUTHENTICATED" ? "Bearer" : undefined);
  }
});

test("the body is a google.rpc.Status with all details", () => {
  const refusal = new Refusal("INVALID_FIELD", [{ field: "coupon.name", description: "is required" }]);
  expect(JSON.parse(restFailure(failureOf(refusal)).body)).toEqual({
    code: 3,
    message: "coupon.name: is required",
    details: [
      { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "INVALID_FIELD", domain: "coupon.v1" },
      {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        fieldViolations: [{ field: "coupon.name", description: "is required" }],
      },
    ],
  });
  expect(JSON.parse(restFailure(internalFailure("id-1")).body).details[1]).toMatchObject({
    requestId: "id-1",
  });
});
