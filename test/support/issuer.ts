import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type CryptoKey, exportJWK, generateKeyPair, type JSONWebKeySet, SignJWT } from "jose";
import type { AtEnd } from "./service.js";

export const issuerName = "https://issuer.test";
export const audience = "coupons";

/** Claims of a token, and what differs from a good one. A claim that is undefined is left out. */
export interface TokenOf {
  readonly claims?: Record<string, unknown>;
  readonly header?: Record<string, unknown>;
  readonly key?: CryptoKey;
}

/** Whoever signs tokens, with a key that can be replaced by another. */
export class Issuer {
  private constructor(
    readonly algorithm: string,
    private readonly pairs: { kid: string; publicKey: CryptoKey; privateKey: CryptoKey }[],
  ) {}

  static async create(algorithm = "ES256"): Promise<Issuer> {
    const issuer = new Issuer(algorithm, []);
    await issuer.rotate();
    return issuer;
  }

  private get current() {
    return this.pairs.at(-1) as (typeof this.pairs)[number];
  }

  get publicKey(): CryptoKey {
    return this.current.publicKey;
  }

  /** Signs with a new key from now on. */
  async rotate(): Promise<void> {
    const pair = await generateKeyPair(this.algorithm, { extractable: true });
    this.pairs.push({ kid: `key-${this.pairs.length + 1}`, ...pair });
  }

  /** The public keys, the newest last; or only the newest. */
  async jwks({ onlyNewest = false } = {}): Promise<JSONWebKeySet> {
    const shown = onlyNewest ? [this.current] : this.pairs;
    const keys = shown.map(async ({ kid, publicKey }) => ({
      ...(await exportJWK(publicKey)),
      kid,
      alg: this.algorithm,
    }));
    return { keys: await Promise.all(keys) };
  }

  /** A token of a service that may issue, for an hour; with whatever is said otherwise. */
  sign({ claims = {}, header = {}, key }: TokenOf = {}): Promise<string> {
    const now = Math.floor(Date.now() / 1_000);
    const good = { iss: issuerName, aud: audience, sub: "shop", iat: now, exp: now + 3_600, scope: "issue" };
    return new SignJWT({ ...good, ...claims })
      .setProtectedHeader({ alg: this.algorithm, kid: this.current.kid, ...header })
      .sign(key ?? this.current.privateKey);
  }
}

/** A server of key sets, which can fail, stay silent, and counts who asks. */
export async function serveKeys(atEnd: AtEnd, keys: () => Promise<JSONWebKeySet>) {
  const state = { asked: 0, mode: "serve" as "serve" | "fail" | "silent" };
  const server = createServer((_request, response) => {
    state.asked += 1;
    if (state.mode === "silent") return;
    if (state.mode === "fail") response.writeHead(500).end();
    else void keys().then((set) => response.setHeader("content-type", "application/json").end(JSON.stringify(set)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  atEnd(async () => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return Object.assign(state, { url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`) });
}
