import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { ErrorReason } from "../../gen/coupon/v1/error_reason_pb.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { invalid, type PreconditionViolation, Refusal, type RefusalDetail, reasons } from "../../src/domain/refusal.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { errorTable, explain, type Failure, failureOf, internalFailure } from "../../src/transport/error-table.js";

/** Each value of the enum with the comment above it, as the proto file has them. */
function documented(): { reason: string; comment: string }[] {
  const text = readFileSync(join(packageRoot(), "proto/coupon/v1/error_reason.proto"), "utf8");
  const body = text.slice(text.indexOf("enum ErrorReason {"));
  return [...body.matchAll(/((?:^ *\/\/.*\n)+) *ERROR_REASON_(\w+) = \d+;/gm)]
    .map(([, comment, reason]) => ({
      reason: reason as string,
      comment: (comment as string).replace(/^ *\/\/ ?/gm, "").replaceAll("\n", " "),
    }))
    .filter(({ reason }) => reason !== "UNSPECIFIED");
}

const detailsOf = (failure: Failure) => {
  const message = fromBinary(StatusSchema, failure.status);
  const one = <T>(read: (any: (typeof message.details)[number]) => T | undefined) =>
    message.details.map(read).find((found) => found !== undefined);
  return {
    message,
    info: one((any) => anyUnpack(any, ErrorInfoSchema)),
    badRequest: one((any) => anyUnpack(any, BadRequestSchema)),
    preconditions: one((any) => anyUnpack(any, PreconditionFailureSchema)),
    retry: one((any) => anyUnpack(any, RetryInfoSchema)),
    request: one((any) => anyUnpack(any, RequestInfoSchema)),
  };
};

describe("the table and the contract say the same", () => {
  test("every value of the enum is documented, and is a reason", () => {
    const values = Object.keys(ErrorReason).filter((name) => !/^\d+$/.test(name) && name !== "UNSPECIFIED");
    expect(documented().map(({ reason }) => reason)).toEqual(values);
    expect([...reasons]).toEqual(values);
    expect(Object.keys(errorTable).sort()).toEqual([...values].sort());
  });

  test.for(documented())("$reason", ({ reason, comment }) => {
    const [, code, withRetry] = /^([A-Z_]+)(, with RetryInfo)?\. /.exec(comment) ?? [];
    const row = errorTable[reason as keyof typeof errorTable];
    expect(code, `the comment of ${reason} must begin with its status code and a full stop`).toBeDefined();
    expect(status[row.code]).toBe(code);
    expect(row.retryAfterMs !== undefined).toBe(withRetry !== undefined);
    if (row.retryAfterMs !== undefined) expect(row.retryAfterMs).toBeGreaterThan(0);
    expect(row.message).toMatch(/^[a-z]/);
  });
});

describe("the answer", () => {
  test.for(reasons.map((reason) => ({ reason })))("of $reason carries ErrorInfo", ({ reason }) => {
    const failure = failureOf(new Refusal(reason));
    const { message, info, badRequest, retry, request } = detailsOf(failure);
    expect([message.code, message.message]).toEqual([failure.code, failure.message]);
    expect([info?.reason, info?.domain]).toEqual([reason, "coupon.v1"]);
    expect([badRequest, request]).toEqual([undefined, undefined]);
    const leastMs = errorTable[reason].retryAfterMs;
    const toldMs = retry && durationMs(retry.retryDelay!);
    // Those of whom many are turned away at once are told different times.
    if (["OVERLOADED", "STORE_UNAVAILABLE", "WATCH_ENDED"].includes(reason)) {
      expect(toldMs).toBeGreaterThanOrEqual(leastMs!);
      expect(toldMs).toBeLessThanOrEqual(3 * leastMs!);
    } else {
      expect(toldMs).toBe(leastMs);
    }
  });

  test("names each field in BadRequest and in its message", () => {
    const failure = failureOf(
      invalid({ field: "coupon.name", description: "is required" }, { field: "", description: "is not JSON" }),
    );
    expect(detailsOf(failure).badRequest?.fieldViolations).toMatchObject([
      { field: "coupon.name", description: "is required" },
      { field: "", description: "is not JSON" },
    ]);
    expect(failure.message).toBe("coupon.name: is required; is not JSON");
  });

  test("of one call does not show in another's", () => {
    failureOf(invalid({ field: "coupon.name", description: "is required" }));
    failureOf(new Refusal("SOLD_OUT", [], "with a sentence of its own"));
    expect(detailsOf(failureOf(new Refusal("INVALID_FIELD"))).badRequest).toBeUndefined();
    expect(failureOf(new Refusal("SOLD_OUT")).message).toBe(errorTable.SOLD_OUT.message);
    expect(failureOf(new Refusal("SOLD_OUT", [], "of its own")).message).toBe("of its own");
  });

  test("can be sent, whatever half characters the caller has sent, and wherever a text is cut", () => {
    const pair = "\u{1f600}";
    const texts = ["\ud83d", "\ude00", "a\ud83db", ...Array.from({ length: 12 }, (_, n) => "a".repeat(390 + n) + pair)];
    for (const text of texts) {
      const fields = [
        invalid({ field: text, description: "is wrong" }),
        invalid({ field: "coupon", description: text }),
      ];
      for (const refusal of [...fields, new Refusal("INVALID_FIELD", [], text)]) {
        const failure = failureOf(refusal);
        const { message, badRequest } = detailsOf(failure);
        expect(failure.message.isWellFormed()).toBe(true);
        for (const one of explain(refusal).violations) {
          expect([one.field.isWellFormed(), one.description.isWellFormed()]).toEqual([true, true]);
        }
        expect(message.message).toBe(failure.message);
        for (const { field, description } of badRequest?.fieldViolations ?? []) {
          expect([field.isWellFormed(), description.isWellFormed()]).toEqual([true, true]);
          expect(failure.message).toBe(`${field}: ${description}`);
        }
      }
    }
  });

  test.for(["k", "%", "é", "€", "\u{1f600}", "\u0001", '"'])(
    "fits into trailers, when all is as long as can be, of %j",
    (one) => {
      const long = one.repeat(70_000);
      const fields = Array.from({ length: 1_000 }, (_, n) => ({ field: `labels["${n}${long}"]`, description: long }));
      for (const refusal of [invalid(...fields), new Refusal("INVALID_FIELD", fields, long)]) {
        const failure = failureOf(refusal);
        const sent = encodeURI(failure.message).length + failure.status.toString("base64").length;
        expect(sent).toBeLessThan(40_000);
        expect(detailsOf(failure).badRequest?.fieldViolations).toHaveLength(20);
      }
    },
  );

  describe("to an order", () => {
    const locked: PreconditionViolation = { reason: "LOCKED", field: "coupons[0]" };
    const used: PreconditionViolation = { reason: "ALREADY_USED", field: "coupons[1]" };
    const sent = (detail: RefusalDetail) =>
      detailsOf(failureOf(new Refusal(detail.preconditions?.[0]?.reason ?? "LOCKED", [], undefined, detail)));

    test("has every reason with the path of what it is about, the first as its own", () => {
      const { message, info, preconditions } = sent({ preconditions: [used, locked] });
      expect([info?.reason, message.message]).toEqual(["ALREADY_USED", errorTable.ALREADY_USED.message]);
      expect(preconditions?.violations).toMatchObject([
        { type: "ALREADY_USED", subject: "coupons[1]", description: errorTable.ALREADY_USED.message },
        { type: "LOCKED", subject: "coupons[0]", description: errorTable.LOCKED.message },
      ]);
    });

    test.for([
      [
        "one reason that passes, without a time of its own",
        { preconditions: [locked] },
        errorTable.LOCKED.retryAfterMs,
      ],
      ["one reason that passes, with a time of its own", { preconditions: [locked], retryAfterMs: 7 }, 7],
      ["one reason that does not pass", { preconditions: [used] }, undefined],
      ["two reasons, the first of which would pass", { preconditions: [locked, used] }, undefined],
      ["two reasons that pass, with a time", { preconditions: [locked, locked], retryAfterMs: 9 }, 9],
      ["no list of reasons, with a time of its own", { retryAfterMs: 1_234 }, 1_234],
    ] as [string, RefusalDetail, number | undefined][])("says when to come again: %s", ([, detail, retryAfterMs]) => {
      const { retry } = sent(detail);
      expect(retry && durationMs(retry.retryDelay!)).toBe(retryAfterMs);
    });

    test("does not show in the next one's answer", () => {
      sent({ preconditions: [locked, used], retryAfterMs: 5 });
      const { preconditions, retry } = detailsOf(failureOf(new Refusal("LOCKED")));
      expect(preconditions).toBeUndefined();
      expect(retry && durationMs(retry.retryDelay!)).toBe(errorTable.LOCKED.retryAfterMs);
    });
  });

  test("to a fault says the request's id and nothing else", () => {
    const failure = internalFailure("request-7");
    const { message, info, request } = detailsOf(failure);
    expect([message.code, message.message]).toEqual([status.INTERNAL, errorTable.INTERNAL.message]);
    expect([info?.reason, request?.requestId]).toEqual(["INTERNAL", "request-7"]);
  });
});
