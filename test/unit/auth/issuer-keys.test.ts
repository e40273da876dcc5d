import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { RemoteKeys } from "../../../src/auth/jwt/issuer-keys.js";
import { JwtAuthenticator, type JwtFault } from "../../../src/auth/jwt/jwt-authenticator.js";
import { Refusal } from "../../../src/domain/refusal.js";
import { audience, Issuer, issuerName, serveKeys } from "../../support/issuer.js";
import { until } from "../../support/until.js";

const minuteMs = 60_000;
const away = new Refusal("STORE_UNAVAILABLE");
const unknown = new Refusal("UNAUTHENTICATED");

let issuer: Issuer;
let onlyNewest: boolean;
const server = await serveKeys(afterAll, () => issuer.jwks({ onlyNewest }));

let now: number;
let authenticator: JwtAuthenticator;
let fetched: number;
let failed: unknown[];
const faults: JwtFault[] = [];

beforeEach(async () => {
  issuer = await Issuer.create();
  onlyNewest = false;
  Object.assign(server, { asked: 0, mode: "serve" });
  [now, fetched, failed] = [0, 0, []];
  const keys = new RemoteKeys({
    url: server.url,
    onFetched: () => {
      fetched += 1;
    },
    onFailed: (error) => failed.push(error),
    now: () => now,
  });
  authenticator = new JwtAuthenticator({
    ...{ issuer: issuerName, audience, algorithms: ["ES256"], clockToleranceS: 5, keys },
    claims: { scopes: "scope", user: undefined },
    clock: { nowMs: Date.now },
    onRefused: (fault) => void faults.push(fault),
    onError: (error) => failed.push(error),
  });
});

const ask = async (token: string) => await authenticator.authenticate({ header: () => `Bearer ${token}` });
const good = expect.objectContaining({ id: `jwt:${issuerName}#shop` });
const withUnknownKey = (kid: string) => issuer.sign({ header: { kid } });

test("the keys are fetched once, for many who ask at the same time", async () => {
  const tokens = await Promise.all(Array.from({ length: 20 }, (_, n) => issuer.sign({ claims: { jti: `${n}` } })));
  expect(await Promise.all(tokens.map(ask))).toEqual(tokens.map(() => good));
  expect([server.asked, fetched, failed]).toEqual([1, 1, []]);
});

test("a key that the issuer has begun to sign with is fetched when the first token of it comes", async () => {
  const old = await issuer.sign();
  expect(await ask(old)).toEqual(good);
  await issuer.rotate();
  const token = await issuer.sign();
  now += minuteMs;
  expect(await ask(token)).toEqual(good);
  expect(await ask(old)).toEqual(good);
  expect(server.asked).toBe(2);
});

test("tokens of unknown keys cause one fetch in ten seconds, however many come", async () => {
  const known = await issuer.sign();
  expect(await ask(known)).toEqual(good);
  for (let round = 1; round <= 3; round += 1) {
    now += 10_000;
    for (let n = 0; n < 5; n += 1) expect(await ask(await withUnknownKey(`${round}-${n}`))).toEqual(unknown);
    expect(server.asked).toBe(1 + round);
    now += 9_999;
    expect(await ask(await withUnknownKey(`${round}-late`))).toEqual(unknown);
    expect(server.asked).toBe(1 + round);
  }
  expect(await ask(known)).toEqual(good);
});

test("while the issuer does not answer only so many wait, and all others are answered at once", async () => {
  server.mode = "silent";
  const tokens = await Promise.all(Array.from({ length: 100 }, (_, n) => withUnknownKey(`${n}`)));
  let answered = 0;
  const answers = tokens.map(async (token) => {
    const answer = await ask(token);
    answered += 1;
    return answer;
  });
  await until("those that do not wait are answered", () => answered === 100 - 32);
  await until("the keys are asked for", () => server.asked > 0);
  expect([server.asked, failed]).toEqual([1, []]);
  // The fetch has a time limit, and so have those that wait for it.
  expect(await Promise.all(answers)).toEqual(tokens.map(() => away));
  expect(failed).toHaveLength(1);
});

describe("while the issuer is away", () => {
  test("nobody can tell whether a token holds, until it is back", async () => {
    server.mode = "fail";
    for (let n = 0; n < 5; n += 1) expect(await ask(await issuer.sign())).toEqual(away);
    expect([server.asked, failed.length]).toEqual([1, 1]);
    server.mode = "serve";
    const token = await issuer.sign();
    expect(await ask(token)).toEqual(away);
    now += 10_000;
    expect(await ask(token)).toEqual(good);
    expect(fetched).toBe(1);
  });

  test("known keys go on for an hour, and no longer; of others nobody can tell", async () => {
    const token = await issuer.sign();
    expect(await ask(token)).toEqual(good);
    server.mode = "fail";
    now += 60 * minuteMs;
    expect(await ask(token)).toEqual(good);
    expect(await ask(await issuer.sign({ claims: { jti: "new" } }))).toEqual(good);
    await until("the failure is reported", () => failed.length === 1);
    expect(await ask(await withUnknownKey("other"))).toEqual(away);
    now += 1;
    expect(await ask(token)).toEqual(away);
    expect(await ask(await issuer.sign({ claims: { jti: "newer" } }))).toEqual(away);
    server.mode = "serve";
    now += 10_000;
    expect(await ask(token)).toEqual(good);
  });
});

test("keys that are some minutes old are fetched anew, and nobody waits for that", async () => {
  const token = await issuer.sign();
  expect(await ask(token)).toEqual(good);
  server.mode = "silent";
  now += 5 * minuteMs + 1;
  expect(await ask(token)).toEqual(good);
  expect(await ask(await issuer.sign({ claims: { jti: "new" } }))).toEqual(good);
  await until("the keys are asked for", () => server.asked === 2);
  expect(failed).toEqual([]);
});

test("a key that the issuer has withdrawn holds no longer, nor do the tokens that are remembered", async () => {
  const token = await issuer.sign();
  expect(await ask(token)).toEqual(good);
  expect(await ask(token)).toEqual(good);
  await issuer.rotate();
  onlyNewest = true;
  now += 5 * minuteMs + 1;
  await ask(token);
  await until("the keys are fetched", () => fetched === 2);
  expect(await ask(token)).toEqual(unknown);
  expect(await ask(await issuer.sign())).toEqual(good);
});

test("a key set that is none, or far too large, is a failure", async () => {
  issuer.jwks = async () => ({ no: "keys" }) as never;
  expect(await ask(await issuer.sign())).toEqual(away);
  now += 10_000;
  issuer.jwks = async () => ({ keys: [{ kty: "EC", padding: "x".repeat(300_000) }] }) as never;
  expect(await ask(await issuer.sign())).toEqual(away);
  expect(failed.map(String)).toEqual([expect.stringContaining("malformed"), expect.stringContaining("262144 bytes")]);
});
