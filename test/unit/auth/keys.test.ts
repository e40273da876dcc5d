import { runInNewContext } from "node:vm";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CreateKeyRequestSchema } from "../../../gen/coupon/v1/auth_service_pb.js";
import { Composed, unauthenticated, type Way } from "../../../src/auth/authenticator.js";
import { bearerOf } from "../../../src/auth/bearer.js";
import { KeyAuthenticator } from "../../../src/auth/keys/key-authenticator.js";
import { KeyCopy } from "../../../src/auth/keys/key-copy.js";
import { freshKey, hashOf, idOf } from "../../../src/auth/keys/key-text.js";
import { anybody, type Principal, scopes } from "../../../src/domain/principal.js";
import type { StoredKey } from "../../../src/storage/ports/keys.js";
import { violationsIn } from "../../../src/transport/pipeline.js";
import { messageValidator } from "../../../src/transport/validator.js";

const header = (value: string | undefined) => ({
  header: (name: string) => (name === "authorization" ? value : undefined),
});

describe("the text of a key", () => {
  test("has a public part, and 160 bits that are not", () => {
    const { id, text, hash } = freshKey();
    expect(text).toMatch(/^ck_[a-z2-7]{12}_[a-z2-7]{32}$/);
    expect(idOf(text)).toBe(id);
    expect(hash).toEqual(hashOf(text));
    const many = Array.from({ length: 200 }, () => freshKey().text);
    expect(new Set(many).size).toBe(200);
    // Each of the 32 characters comes up: 200 keys have 8,800.
    expect(new Set(many.flatMap((one) => [...one.slice(3)])).size).toBe(33);
  });

  const { text } = freshKey();
  test.for([
    "",
    "ck_",
    text.slice(0, -1),
    `${text}a`,
    text.toUpperCase(),
    text.replace("_", "-"),
    `${text}\n`,
    ` ${text}`,
  ])("is none: %j", (wrong) => expect(idOf(wrong)).toBeUndefined());
});

test.for([
  [undefined, undefined],
  ["Bearer x", "x"],
  ["bearer  x.y.z ", "x.y.z"],
  ["Bearer", undefined],
  ["Bearer ", undefined],
  ["Bearer   ", undefined],
  ["Bearer \t", undefined],
  ["Bearer \tx", undefined],
  ["Bearer x\t ", "x"],
  ["Bearer x y", undefined],
  ["Basic eDp5", undefined],
  ["xBearer x", undefined],
] as const)("the token of %j is %j", ([value, token]) => {
  expect(bearerOf(header(value))).toBe(token);
});

describe("a header of any length", () => {
  /** Without a regular expression: what follows the blanks after the word, if it is one piece. */
  const slowly = (value: string) => {
    if (value.slice(0, 7).toLowerCase() !== "bearer ") return undefined;
    let from = 7;
    while (value[from] === " ") from += 1;
    let end = value.length;
    while (end > from && value[end - 1]?.trim() === "") end -= 1;
    const token = value.slice(from, end);
    return token !== "" && [...token].every((one) => one.trim() !== "") ? token : undefined;
  };

  test("is read as one would read it by hand", () => {
    const piece = fc.constantFrom("bearer", "Bearer", " ", "  ", "\t", "a", "x.y", "\u00e9", ",");
    const text = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(""));
    const begun = fc.oneof(
      text,
      text.map((rest) => `Bearer ${rest}`),
    );
    fc.assert(
      fc.property(begun, (value) => {
        expect(bearerOf(header(value))).toBe(slowly(value));
      }),
      { numRuns: 5_000 },
    );
  });

  const long = 600_000;
  const [blanks, letters] = [" ".repeat(long), "a".repeat(long)];
  test.for([
    ["blanks before two words", `bearer ${blanks}a b`, undefined],
    ["blanks between two words", `bearer a${blanks}b`, undefined],
    ["blanks and nothing else", `bearer ${blanks}`, undefined],
    ["a long word, and another", `bearer ${letters} b`, undefined],
    ["many words", `bearer ${"a ".repeat(long / 2)}b`, undefined],
    ["a long word between blanks", `bearer ${blanks}${letters}${blanks}`, letters],
  ] as const)("takes no longer than its length allows: %s", ([, value, token]) => {
    // Each is a matter of milliseconds; in time that grows with the square of the length it would be one of minutes, and is cut off.
    const read = () => bearerOf(header(value));
    expect(runInNewContext("read()", { read }, { timeout: 10_000 })).toBe(token);
  });
});

const nowMs = 1_800_000_000_000;
const keyOf = (changed: Partial<StoredKey> = {}) => {
  const { text, ...key } = freshKey();
  return {
    text,
    stored: {
      ...key,
      ...{
        caller: "shop",
        scopes: ["issue"],
        expiresAt: null,
        revokedAt: null,
      },
      ...changed,
    } as StoredKey,
  };
};

async function world(...keys: StoredKey[]) {
  const copy = new KeyCopy({ readPage: async () => ({ keys, mark: "1", next: null }) });
  await copy.run();
  const failed: string[] = [];
  const said: string[] = [];
  const say = (...line: unknown[]) => void said.push(JSON.stringify(line));
  let aheadMs = 0;
  const way = new KeyAuthenticator({
    keys: copy,
    clock: { nowMs: () => nowMs + aheadMs },
    failures: { authFailed: (way, why) => void failed.push(`${way} ${why}`) },
    log: { warn: say, debug: say },
  });
  const bring = (text: string) => way.authenticate(header(`Bearer ${text}`)) as Principal;
  return {
    ...{ bring, failed, said, way },
    setClock: (ms: number) => {
      aheadMs = ms;
    },
  };
}

describe("a key", () => {
  test("says who calls, and what the caller may", async () => {
    const { text, stored } = keyOf();
    const { bring, failed } = await world(stored);
    expect(bring(text)).toEqual({ id: "key:shop", scopes: new Set(["issue"]) });
    expect(failed).toEqual([]);
  });

  test("holds until the very moment at which it expires", async () => {
    const { text, stored } = keyOf({ expiresAt: new Date(nowMs + 1_000) });
    const { bring, setClock } = await world(stored);
    setClock(999);
    expect(bring(text).id).toBe("key:shop");
    setClock(1_000);
    expect(bring(text)).toBe(unauthenticated);
  });

  test("that is wrong in any way is refused with one and the same answer, and counted by what is wrong", async () => {
    const good = keyOf();
    const revoked = keyOf({ revokedAt: new Date(nowMs - 1) });
    const expired = keyOf({ expiresAt: new Date(nowMs) });
    const { bring, failed, said } = await world(good.stored, revoked.stored, expired.stored);
    const otherSecret = `ck_${good.stored.id}_${freshKey().text.slice(-32)}`;
    const wrong = [`${good.text}x`, "ck_", freshKey().text, otherSecret, revoked.text, expired.text, revoked.text];
    expect(wrong.map(bring)).toEqual(wrong.map(() => unauthenticated));
    for (const text of wrong) expect(bring(text)).toBe(unauthenticated);
    expect(failed.slice(0, wrong.length)).toEqual([
      ...["key malformed", "key malformed", "key unknown", "key wrong secret"],
      ...["key revoked", "key expired", "key revoked"],
    ]);
    // Of what has ended the log has a warning, once in a while; and never what is secret.
    expect(said.filter((line) => line.includes("still used"))).toHaveLength(2);
    for (const text of [good.text, ...wrong]) {
      const secret = text.split("_")[2];
      if (secret) expect(said.join()).not.toContain(secret);
    }
  });

  test("is not known by the secret of another one, nor by an empty hash", async () => {
    const { text, stored } = keyOf({ hash: new Uint8Array(32) });
    expect((await world(stored)).bring(text)).toBe(unauthenticated);
    expect((await world()).bring(text)).toBe(unauthenticated);
  });

  test("is what a bearer token is that begins like one; others are somebody else's", async () => {
    const { way } = await world();
    for (const value of [undefined, "Bearer eyJhbGciOiJFUzI1NiJ9.e30.x", "Basic eDp5"]) {
      expect(way.authenticate(header(value))).toBeNull();
    }
  });
});

describe("several ways", () => {
  const no: Way = { authenticate: () => null };
  const later = (answer: Principal | null): Way => ({ authenticate: async () => answer });
  const counted: string[] = [];
  const ask = (...ways: Way[]) =>
    new Composed(ways, { authFailed: (way, why) => void counted.push(`${way} ${why}`) }).authenticate(
      header(undefined),
    );

  test("are asked in their order, and the first that knows decides", async () => {
    const refuses: Way = { authenticate: () => unauthenticated };
    expect(ask(no, { authenticate: () => anybody }, refuses)).toBe(anybody);
    expect(ask(refuses, { authenticate: () => anybody })).toBe(unauthenticated);
    expect(await ask(later(null), no, later(anybody), refuses)).toBe(anybody);
    expect(counted).toEqual([]);
  });

  test("let nobody in whom none of them knows", async () => {
    expect(ask()).toBe(unauthenticated);
    expect(ask(no, no)).toBe(unauthenticated);
    expect(await ask(no, later(null), no)).toBe(unauthenticated);
    expect(counted).toEqual(["none missing", "none missing", "none missing"]);
  });
});

test("the contract takes all scopes for a key, and no other word", () => {
  const schema = CreateKeyRequestSchema;
  const validator = messageValidator();
  const wrong = (names: readonly string[]) =>
    violationsIn(validator, schema, create(schema, { caller: "c", scopes: [...names] }));
  expect(wrong(scopes)).toEqual([]);
  for (const name of scopes) expect(wrong([name])).toEqual([]);
  for (const names of [[], ["other"], ["issue", "issue"], [""]]) expect(wrong(names).length).toBeGreaterThan(0);
});
