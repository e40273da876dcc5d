import { exportSPKI, generateKeyPair, SignJWT } from "jose";
import { beforeEach, describe, expect, test } from "vitest";
import { fixedKeys } from "../../../src/auth/jwt/issuer-keys.js";
import { JwtAuthenticator, type JwtFault, type JwtOptions } from "../../../src/auth/jwt/jwt-authenticator.js";
import { Refusal } from "../../../src/domain/refusal.js";
import { audience, Issuer, issuerName, type TokenOf } from "../../support/issuer.js";

const issuer = await Issuer.create();
const keys = fixedKeys(await issuer.jwks());
const stranger = await generateKeyPair("ES256");

const faults: JwtFault[] = [];
const unexpected: unknown[] = [];
beforeEach(() => {
  faults.splice(0);
  unexpected.splice(0);
});

function authenticatorWith(options: Partial<JwtOptions> = {}): JwtAuthenticator {
  return new JwtAuthenticator({
    issuer: issuerName,
    audience,
    algorithms: ["ES256", "RS256", "EdDSA"],
    clockToleranceS: 5,
    claims: { scopes: "scope", user: "user_id" },
    keys,
    clock: { nowMs: Date.now },
    onRefused: (fault) => void faults.push(fault),
    onError: (error) => void unexpected.push(error),
    ...options,
  });
}

const authenticator = authenticatorWith();
const bearer = (token: string) => ({ header: () => `Bearer ${token}` });
const ask = async (token: string, of = authenticator) => await of.authenticate(bearer(token));
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
const nowS = () => Math.floor(Date.now() / 1_000);
/** The claims of a good token. */
const payloadOf = (token: string) => JSON.parse(Buffer.from(token.split(".")[1] as string, "base64url").toString());

test("a token that the issuer has signed says who calls and what it may, and no more", async () => {
  const token = await issuer.sign({ claims: { scope: "issue use drink-coffee" }, header: { typ: "at+jwt" } });
  expect(await ask(token)).toEqual({ id: `jwt:${issuerName}#shop`, scopes: new Set(["issue", "use"]) });
  const list = await issuer.sign({ claims: { scope: ["use", 5, "admin"] } });
  expect(await ask(list)).toMatchObject({ scopes: new Set(["use", "admin"]) });
  const user = await issuer.sign({ claims: { user_id: "anna" } });
  expect(await ask(user)).toMatchObject({ userId: "anna", scopes: new Set(["issue"]) });
  expect(faults).toEqual([]);
});

test("without a claim for users all tokens are services'; other names of claims are heeded", async () => {
  const services = authenticatorWith({ claims: { scopes: "permissions", user: undefined } });
  const token = await issuer.sign({ claims: { user_id: "anna", permissions: ["use"] } });
  expect(await ask(token, services)).toEqual({ id: `jwt:${issuerName}#shop`, scopes: new Set(["use"]) });
});

test.for([undefined, 5, { issue: true }, null])(
  "a token whose scopes are %j is known, and may nothing",
  async (scope) => {
    expect(await ask(await issuer.sign({ claims: { scope } }))).toMatchObject({ scopes: new Set() });
  },
);

test("EdDSA is an algorithm as well", async () => {
  const other = await Issuer.create("EdDSA");
  const of = authenticatorWith({ keys: fixedKeys(await other.jwks()) });
  expect(await ask(await other.sign(), of)).toMatchObject({ id: `jwt:${issuerName}#shop` });
});

describe("refused, and the caller is not told why:", () => {
  const wrong: [string, JwtFault, TokenOf][] = [
    ["another audience", "audience", { claims: { aud: "others" } }],
    ["no audience", "audience", { claims: { aud: undefined } }],
    ["another issuer", "issuer", { claims: { iss: `${issuerName}/` } }],
    ["expired", "expired", { claims: { exp: nowS() - 10 } }],
    ["without an end", "claims", { claims: { exp: undefined } }],
    ["not yet valid", "early", { claims: { nbf: nowS() + 60 } }],
    ["signed by somebody else", "signature", { key: stranger.privateKey }],
    ["an unknown key", "key", { header: { kid: "unknown" } }],
    ["another type of token", "type", { header: { typ: "logout+jwt" } }],
    ["a type that is no text", "type", { header: { typ: 5 } }],
    ["nobody's", "claims", { claims: { sub: undefined } }],
    ["nobody's, by name", "claims", { claims: { sub: "" } }],
    ["of a subject with a NUL", "claims", { claims: { sub: "shop\0" } }],
    ["of a subject that is no Unicode", "claims", { claims: { sub: "\ud800" } }],
    ["a user whose id is a number", "claims", { claims: { user_id: 5 } }],
    ["a user whose id is null", "claims", { claims: { user_id: null } }],
    ["a user without an id", "claims", { claims: { user_id: "" } }],
    ["longer than 8 KiB", "too_long", { claims: { padding: "x".repeat(8_192) } }],
  ];
  test.for(wrong)("%s", async ([, fault, of]) => {
    const token = await issuer.sign(of);
    for (let time = 1; time <= 2; time += 1) {
      const answer = await ask(token);
      expect(answer).toEqual(new Refusal("UNAUTHENTICATED"));
    }
    expect(faults).toEqual([fault, fault]);
    expect(unexpected).toEqual([]);
  });

  test("algorithm none", async () => {
    const token = await issuer.sign();
    for (const alg of ["none", "None", "NONE"]) {
      for (const signature of ["", token.split(".")[2]]) {
        const forged = `${part({ alg })}.${part(payloadOf(token))}.${signature}`;
        expect(await ask(forged)).toEqual(new Refusal("UNAUTHENTICATED"));
      }
    }
    expect(new Set(faults)).toEqual(new Set(["algorithm"]));
  });

  test("HS256, with the public key for a secret", async () => {
    for (const secret of [await exportSPKI(issuer.publicKey), JSON.stringify((await issuer.jwks()).keys[0])]) {
      const forged = await new SignJWT(payloadOf(await issuer.sign()))
        .setProtectedHeader({ alg: "HS256", kid: "key-1" })
        .sign(Buffer.from(secret));
      expect(await ask(forged)).toEqual(new Refusal("UNAUTHENTICATED"));
    }
    expect(faults).toEqual(["algorithm", "algorithm"]);
  });

  test("a good algorithm that is not among those that were chosen", async () => {
    const of = authenticatorWith({ algorithms: ["RS256"] });
    expect(await ask(await issuer.sign(), of)).toEqual(new Refusal("UNAUTHENTICATED"));
    expect(faults).toEqual(["algorithm"]);
  });

  test("claims or a signature that were changed", async () => {
    const [head, claims, signature] = (await issuer.sign()).split(".") as [string, string, string];
    const admin = part({ ...payloadOf(`.${claims}`), scope: "admin" });
    const flipped = Buffer.from(signature, "base64url").map((byte, at) => (at === 9 ? byte ^ 1 : byte));
    for (const token of [
      `${head}.${admin}.${signature}`,
      `${head}.${claims}.${Buffer.from(flipped).toString("base64url")}`,
    ])
      expect(await ask(token)).toEqual(new Refusal("UNAUTHENTICATED"));
    expect(faults).toEqual(["signature", "signature"]);
  });

  test.for(["x", "a.b", "a.b.c", "a.b.c.d", "..", `${part({ alg: "ES256", crit: ["x"], x: 1 })}.e30.AA`])(
    "what is no token: %s",
    async (token) => {
      expect(await ask(token)).toEqual(new Refusal("UNAUTHENTICATED"));
      expect(faults).toHaveLength(1);
      expect(unexpected).toEqual([]);
    },
  );
});

test("what is no JWT is for others to know", () => {
  for (const header of [undefined, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer ck_1_2", "Bearer a b"])
    expect(authenticator.authenticate({ header: () => header })).toBeNull();
  expect(authenticator.authenticate({ header: () => "bearer  d.e.f" })).toBeInstanceOf(Promise);
});

test("the issuer's clock may be off by the tolerance, and not by more", async () => {
  const start = Date.now();
  let now = start;
  const of = authenticatorWith({ clock: { nowMs: () => now }, clockToleranceS: 30 });
  const exp = Math.floor(start / 1_000) + 100;
  const token = await issuer.sign({ claims: { exp } });
  const early = await issuer.sign({ claims: { nbf: exp, exp: exp + 1_000 } });
  const nameOf = async (one: string) => ((await ask(one, of)) as { id?: string }).id;
  expect(await nameOf(early)).toBeUndefined();
  now = (exp - 30) * 1_000;
  expect(await nameOf(early)).toBeDefined();
  now = (exp + 29) * 1_000;
  expect(await nameOf(token)).toBeDefined();
  // It is remembered no longer than it holds.
  now = (exp + 30) * 1_000;
  expect(await nameOf(token)).toBeUndefined();
  expect(faults).toEqual(["early", "expired"]);
});

test("a token is verified once, however many bring it at once and later", async () => {
  let found = 0;
  const find: typeof keys.find = (...args) => {
    found += 1;
    return keys.find(...args);
  };
  const of = authenticatorWith({ keys: { version: 1, find } });
  const token = await issuer.sign();
  const answers = await Promise.all(Array.from({ length: 50 }, () => ask(token, of)));
  expect(new Set(answers).size).toBe(1);
  // No promise any more: whoever is known goes on in the same turn.
  expect(of.authenticate(bearer(token))).toBe(answers[0]);
  expect(found).toBe(1);
});

test("a key that is broken is a fault of the issuer, and not of the token", async () => {
  const of = authenticatorWith({
    keys: {
      version: 1,
      find: async () => {
        throw new TypeError("broken");
      },
    },
  });
  expect(await ask(await issuer.sign(), of)).toEqual(new Refusal("UNAUTHENTICATED"));
  expect(unexpected).toEqual([new TypeError("broken")]);
});

test("keys that are fixed must be public ones", async () => {
  expect(() => fixedKeys({ keys: [] })).toThrow("holds no key");
  expect(() => fixedKeys({ keys: [{ kty: "oct", k: "AAAA" }] })).toThrow("public keys only");
  expect(() => fixedKeys({ keys: [{ kty: "EC", crv: "P-256", x: "AA", y: "AA", d: "AA" }] })).toThrow(
    "public keys only",
  );
  expect(() => fixedKeys("x" as never)).toThrow();
});
