import { describe, expect, test } from "vitest";
import { Refusal } from "../../src/domain/refusal.js";
import { nextPageToken, readPage } from "../../src/services/page-token.js";

const id = "0192f0c1-7e6a-7bcd-8123-456789abcdef";
const parameters = ["ListThings", "anna", false];
const token = nextPageToken(id, parameters);
const encode = (text: string) => Buffer.from(text, "latin1").toString("base64url");
const [, hash] = Buffer.from(token, "base64url").toString("latin1").split(" ");

const fieldsOf = (pageToken: string, others: readonly unknown[] = parameters) => {
  const page = readPage({ pageSize: 10, pageToken }, others);
  return page instanceof Refusal ? [page.reason, ...page.violations.map(({ field }) => field)] : page;
};
const refused = ["INVALID_FIELD", "page_token"];

test("a token leads on after the last row, in a page of any size", () => {
  expect(readPage({ pageSize: 10, pageToken: token }, parameters)).toEqual({ size: 10, before: id });
  expect(readPage({ pageSize: 1_000, pageToken: token }, parameters)).toEqual({ size: 1_000, before: id });
});

test.for([
  [0, 50],
  [1, 1],
  [1_000, 1_000],
] as const)("a page size of %s without a token means the first %s rows", ([pageSize, size]) => {
  expect(readPage({ pageSize, pageToken: "" }, parameters)).toEqual({ size, before: null });
});

test("without a next page there is no token", () => {
  expect(nextPageToken(null, parameters)).toBe("");
});

test("a token is safe in a URL, and within the contract's 512 characters", () => {
  expect(token).toMatch(/^[\w-]{1,512}$/);
});

describe("a malformed token is refused:", () => {
  test.for([
    ["text", "garbage"],
    ["a blank", " "],
    ["a NUL", "\0"],
    ["nothing but signs", "!!!"],
    ["an id alone", encode(id)],
    ["an id and a blank", encode(`${id} `)],
    ["a hash alone", encode(` ${hash}`)],
    ["a third part", encode(`${id} ${hash} x`)],
    ["an id in capitals", encode(`${id.toUpperCase()} ${hash}`)],
    ["an id with something after it", encode(`${id}' ${hash}`)],
    ["an id that is none", encode(`x ${hash}`)],
    ["half a token", token.slice(0, token.length / 2)],
    ["two tokens", token + token],
  ] as const)("%s", ([, text]) => {
    expect(fieldsOf(text)).toEqual(refused);
  });
});

describe("a token of another listing is refused:", () => {
  test.for([
    ["another method", ["ListOthers", "anna", false]],
    ["another user", ["ListThings", "bert", false]],
    ["another flag", ["ListThings", "anna", true]],
    ["a flag as text", ["ListThings", "anna", "false"]],
    ["one parameter less", ["ListThings", "anna"]],
    ["one parameter more", ["ListThings", "anna", false, null]],
    ["parameters that look alike when joined", ["ListThings,anna", false]],
  ] as [string, unknown[]][])("%s", ([, others]) => {
    expect(fieldsOf(token, others)).toEqual(refused);
  });
});

describe("a list in the order in which things were added", () => {
  const numbered = nextPageToken("1234567", parameters);
  const pageOf = (pageToken: string) => readPage({ pageSize: 10, pageToken }, parameters, "number");

  test("goes on after a number", () => {
    expect(pageOf(numbered)).toEqual({ size: 10, before: "1234567" });
  });
  test.for([
    ["an id", token],
    ["0", nextPageToken("0", parameters)],
    ["a sign", nextPageToken("-1", parameters)],
    ["more digits than a number has", nextPageToken("1".repeat(16), parameters)],
    ["a fraction", nextPageToken("1.5", parameters)],
  ] as const)("is not led on by %s", ([, pageToken]) => {
    expect(pageOf(pageToken)).toMatchObject({ violations: [{ field: "page_token" }] });
  });
  test("does not lead on a list of ids", () => {
    expect(fieldsOf(numbered)).toEqual(refused);
  });
});
