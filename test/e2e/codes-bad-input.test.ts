import { type DescMethodUnary, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { oneReplica } from "../support/service.js";
import { callConnect, callNative, pathOf } from "./front-ends.js";
import { createSample } from "./samples.js";

const { uploadCodes, generateCodes, getCodeJob, listCodeJobs, cancelCodeJob, deleteCodes, listCodes } =
  CatalogService.method;

const { replica } = await oneReplica(afterAll);
/** A code book that ignores case and separators, one that does not, and a pool. */
const books = { BOOK: "", EXACT: "", POOL: "" };

beforeAll(async () => {
  books.BOOK = (await createSample(replica.client, { codeBook: {} })).id;
  books.EXACT = (await createSample(replica.client, { codeBook: { exactMatch: true } })).id;
  const upload = { target: { case: "type" as const, value: 1 }, lines: [{}] };
  books.POOL = (await replica.client.call(uploadCodes, upload)).couponId;
});

const someId = "0192f0c1-7e6a-7bcd-8123-456789abcdef";
const yesterday = new Date(Date.now() - 86_400_000).toISOString();
const lines = [{ code: "a" }];
const good = { couponId: someId, pattern: "#", count: 1 };

interface Row {
  readonly what: string;
  readonly method: DescMethodUnary;
  readonly json: JsonValue;
  readonly fields: readonly string[];
}

const generate = (what: string, json: Record<string, JsonValue>, ...fields: string[]): Row => ({
  what,
  method: generateCodes,
  json: { ...good, ...json },
  fields,
});

const remove = (what: string, json: Record<string, JsonValue>, ...fields: string[]): Row => ({
  what,
  method: deleteCodes,
  json: { couponId: someId, ...json },
  fields,
});

const badIds = ["", "not-a-uuid", someId.slice(1), `${someId}\n`, "' OR 1=1 --"];
const badRequestIds = ["r".repeat(65), "a b", "a\n", "é", "\0"];

const rows: Row[] = [
  ...badIds.flatMap((id): Row[] => [
    { what: `the coupon id ${id}`, method: uploadCodes, json: { couponId: id, lines }, fields: ["coupon_id"] },
    { what: `the coupon id ${id}`, method: listCodes, json: { couponId: id }, fields: ["coupon_id"] },
    { what: `the job id ${id}`, method: getCodeJob, json: { jobId: id }, fields: ["job_id"] },
    generate(`the coupon id ${id}`, { couponId: id }, "coupon_id"),
    { what: `the job id ${id}`, method: cancelCodeJob, json: { jobId: id }, fields: ["job_id"] },
    remove(`the coupon id ${id}`, { couponId: id, codes: ["a"] }, "coupon_id"),
    remove(`the upload id ${id}`, { uploadId: id }, "upload_id"),
    remove(`the job id ${id}`, { jobId: id }, "job_id"),
  ]),
  ...badIds.slice(1).map(
    (couponId): Row => ({
      ...{ what: `the coupon id ${couponId}`, method: listCodeJobs, json: { couponId }, fields: ["coupon_id"] },
    }),
  ),
  ...["", " a", "a ", "é", "a\n", "\0", "x".repeat(65)].map((code) =>
    remove(`the code ${code}`, { codes: ["a", code] }, "codes[1]"),
  ),
  ...["garbage", "\0", "x".repeat(513)].flatMap((pageToken) => [
    remove(`the page token ${pageToken.slice(0, 9)}`, { uploadId: someId, pageToken }, "page_token"),
    {
      what: `the page token ${pageToken.slice(0, 9)}`,
      method: listCodeJobs,
      json: { pageToken },
      fields: ["page_token"],
    },
  ]),
  remove("nothing that says which", {}, "codes"),
  remove("two things that say which", { codes: ["a"], uploadId: someId }, "codes"),
  remove("a page token for what is named", { codes: ["a"], pageToken: "MSBh" }, "page_token"),
  remove("501 codes", { codes: Array.from({ length: 501 }, (_, n) => `c${n}`) }, "codes"),
  { what: "no target", method: deleteCodes, json: { codes: ["a"] }, fields: ["target"] },
  { what: "no type", method: deleteCodes, json: { type: "COUPON_TYPE_UNSPECIFIED", codes: ["a"] }, fields: ["type"] },
  { what: "a state twice", method: listCodeJobs, json: { states: [1, 1] }, fields: ["states"] },
  { what: "no state", method: listCodeJobs, json: { states: [0] }, fields: ["states[0]"] },
  ...[-1, 1_001].map(
    (pageSize): Row => ({
      ...{ what: `a page size of ${pageSize}`, method: listCodeJobs, json: { pageSize }, fields: ["page_size"] },
    }),
  ),
  ...badRequestIds.flatMap((requestId): Row[] => [
    remove(`the request id ${requestId}`, { codes: ["a"], requestId }, "request_id"),
    {
      what: `the request id ${requestId}`,
      method: cancelCodeJob,
      json: { jobId: someId, requestId },
      fields: ["request_id"],
    },
  ]),
  ...badRequestIds.flatMap((requestId): Row[] => [
    {
      ...{ what: `the request id ${requestId}`, method: uploadCodes, fields: ["request_id"] },
      json: { couponId: someId, lines, requestId },
    },
    generate(`the request id ${requestId}`, { requestId }, "request_id"),
  ]),
  { what: "no target", method: uploadCodes, json: { lines }, fields: ["target"] },
  { what: "no type", method: uploadCodes, json: { type: "COUPON_TYPE_UNSPECIFIED", lines }, fields: ["type"] },
  { what: "an unknown type", method: uploadCodes, json: { type: 9, lines }, fields: ["type"] },
  { what: "no lines", method: uploadCodes, json: { couponId: someId }, fields: ["lines"] },
  { what: "nothing", method: uploadCodes, json: {}, fields: ["target", "lines"] },
  { what: "nothing", method: generateCodes, json: {}, fields: ["coupon_id", "pattern", "count"] },
  generate("no codes", { count: 0 }, "count"),
  generate("-1 codes", { count: -1 }, "count"),
  generate("1,000,001 codes", { count: 1_000_001 }, "count"),
  generate("a pattern of 201 characters", { pattern: "\\a".repeat(100).concat("b") }, "pattern"),
  ...["A!", "é", "[A", "[]", "[Z-A]", "[AA]", "#{0}", "#{65}", "A{2}", "\\", "a\0", "#{64}#", "#{4"].map((pattern) =>
    generate(`the pattern ${pattern}`, { pattern }, "pattern"),
  ),
  generate("0 uses of each", { terms: { maxUses: 0 } }, "terms.max_uses"),
  generate("1,001 uses of each", { terms: { maxUses: 1_001 } }, "terms.max_uses"),
  generate("0 holders of each", { terms: { maxHolders: 0 } }, "terms.max_holders"),
  generate("1,000,001 holders of each", { terms: { maxHolders: 1_000_001 } }, "terms.max_holders"),
  generate("a discount of no kind", { terms: { discount: {} } }, "terms.discount.kind"),
  generate(
    "0 basis points",
    { terms: { discount: { percentageBasisPoints: 0 } } },
    "terms.discount.percentage_basis_points",
  ),
  generate(
    "an unknown currency",
    { terms: { discount: { fixedAmount: { currencyCode: "XXQ", minorUnits: "1" } } } },
    "terms.discount.fixed_amount.currency_code",
  ),
  generate("an end in the year 1", { terms: { expireTime: "0001-01-01T00:00:00Z" } }, "terms.expire_time"),
  generate(
    "everything wrong that no book is needed for",
    { pattern: "[", terms: { maxUses: 0, maxHolders: 0, discount: { fixedAmount: { currencyCode: "XXQ" } } } },
    ...["pattern", "terms.max_uses", "terms.max_holders"],
    ...["terms.discount.fixed_amount.currency_code", "terms.discount.fixed_amount.minor_units"],
  ),
  generate("more codes than the pattern makes", { couponId: "BOOK", pattern: "##", count: 101 }, "pattern"),
  generate("what are the same codes without case", { couponId: "BOOK", pattern: "#[aA]" }, "pattern"),
  generate("what are the same codes without separators", { couponId: "BOOK", pattern: "#[._]#" }, "pattern"),
  generate("a blank at the end", { couponId: "EXACT", pattern: "# " }, "pattern"),
  generate("no letter and no digit", { couponId: "EXACT", pattern: "-[-A]" }, "pattern"),
  generate("an end in the past", { couponId: "BOOK", terms: { expireTime: yesterday } }, "terms.expire_time"),
  generate("no terms for a pool", { couponId: "POOL" }, "terms.discount", "terms.expire_time"),
  generate(
    "nothing that fits",
    { couponId: "POOL", pattern: "[aA]", count: 3, terms: { expireTime: yesterday } },
    ...["pattern", "terms.discount", "terms.expire_time"],
  ),
  { what: "a page size of -1", method: listCodes, json: { couponId: someId, pageSize: -1 }, fields: ["page_size"] },
  {
    what: "a page size of 1,001",
    method: listCodes,
    json: { couponId: someId, pageSize: 1_001 },
    fields: ["page_size"],
  },
  ...["garbage", " ", "\0", "x".repeat(513)].map(
    (pageToken): Row => ({
      what: `the page token ${pageToken.slice(0, 9)}`,
      method: listCodes,
      json: { couponId: someId, pageToken },
      fields: ["page_token"],
    }),
  ),
];

describe("a field that is out of its range is named, and nothing else is", () => {
  test.for(rows.map((row) => ({ ...row, rpc: row.method.name })))(
    "$rpc with $what",
    async ({ method, json, fields }) => {
      const named = { ...(json as Record<string, JsonValue>) };
      const book = books[named.couponId as keyof typeof books];
      if (book) named.couponId = book;
      const bytes = toBinary(method.input, fromJson(method.input, named));
      for (const answer of [
        await callNative(replica.client, method, bytes),
        await callConnect(replica.httpPort, pathOf(method), JSON.stringify(named)),
      ]) {
        expect([answer.reason, [...answer.fields].sort()]).toEqual(["INVALID_FIELD", [...fields].sort()]);
      }
    },
  );
});
