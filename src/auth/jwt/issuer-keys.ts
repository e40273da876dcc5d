import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  errors,
  type FetchImplementation,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
} from "jose";

/** The public keys of the issuer. */
export interface IssuerKeys {
  /** Grows when other keys hold; undefined: those that were known are too old, and none can be had. */
  readonly version: number | undefined;
  /** The key of a token's header. Throws KeysAway when that cannot be told now. */
  readonly find: JWTVerifyGetKey;
}

/** Thrown when nobody can tell now whether a token was signed by the issuer. */
export class KeysAway extends Error {
  override readonly name = "KeysAway";
}

/** Keys that stay as they are. Throws unless all of them are public. */
export function fixedKeys(set: JSONWebKeySet): IssuerKeys {
  const find = createLocalJWKSet(set);
  if (set.keys.length === 0) throw new Error("holds no key");
  if (set.keys.some((key) => key.kty === "oct" || "d" in key)) throw new Error("must hold public keys only");
  return { version: 1, find };
}

/** Keys older than this are fetched again, while those that are known go on. */
const refreshAfterMs = 300_000;
/** Keys older than this are not used: one that the issuer has withdrawn does not hold for longer. */
const maxAgeMs = 3_600_000;
/** Between two fetches at least, whatever callers bring. */
const cooldownMs = 10_000;
const fetchTimeoutMs = 3_000;
/** Calls that may wait for a fetch. Others are told to come again. */
const maxWaiting = 32;
/** A longer set is none. */
const maxSetBytes = 262_144;

export interface RemoteKeysOptions {
  readonly url: URL;
  readonly onFetched: () => void;
  readonly onFailed: (error: unknown) => void;
  /** In ms; does not follow the clock of the machine. */
  readonly now?: () => number;
}

/**
 * Keys that the issuer serves. jose fetches and reads them; when that is done is decided here, for its own way asks again
 * for every call while the issuer is away.
 */
export class RemoteKeys implements IssuerKeys {
  private readonly remote: ReturnType<typeof createRemoteJWKSet>;
  private readonly now: () => number;
  private known = "";
  private knownVersion = 0;
  private fetchedAtMs = Number.NEGATIVE_INFINITY;
  private askedAtMs = Number.NEGATIVE_INFINITY;
  private lastFailed = false;
  private fetching: Promise<void> | undefined;
  private waiting = 0;

  constructor(private readonly options: RemoteKeysOptions) {
    this.now = options.now ?? (() => performance.now());
    this.remote = createRemoteJWKSet(options.url, {
      timeoutDuration: fetchTimeoutMs,
      // It never decides by itself to fetch.
      cooldownDuration: Number.POSITIVE_INFINITY,
      cacheMaxAge: Number.POSITIVE_INFINITY,
      [customFetch]: boundedFetch,
    });
  }

  get version(): number | undefined {
    const ageMs = this.now() - this.fetchedAtMs;
    if (ageMs > refreshAfterMs) this.mayFetch();
    return ageMs > maxAgeMs ? undefined : this.knownVersion;
  }

  readonly find: JWTVerifyGetKey = async (header, token) => {
    if (this.version === undefined) await this.fetchNow();
    if (this.version === undefined) throw new KeysAway();
    try {
      return await this.remote(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      // The issuer may have begun to sign with a new one.
      await this.fetchNow();
      if (this.lastFailed) throw new KeysAway();
      return await this.remote(header, token);
    }
  };

  /** Waits for a fetch that is under way or may begin; also when it fails. */
  async fetchNow(): Promise<void> {
    const fetching = this.mayFetch();
    if (!fetching) return;
    if (this.waiting >= maxWaiting) throw new KeysAway();
    this.waiting += 1;
    await fetching;
    this.waiting -= 1;
  }

  /** Never rejects; undefined: the last one is not long enough ago. */
  private mayFetch(): Promise<void> | undefined {
    if (!this.fetching && this.now() - this.askedAtMs >= cooldownMs) {
      this.askedAtMs = this.now();
      this.fetching = this.fetch().finally(() => {
        this.fetching = undefined;
      });
    }
    return this.fetching;
  }

  private async fetch(): Promise<void> {
    try {
      await this.remote.reload();
    } catch (error) {
      this.lastFailed = true;
      this.options.onFailed(error);
      return;
    }
    this.lastFailed = false;
    this.fetchedAtMs = this.now();
    const fetched = JSON.stringify(this.remote.jwks());
    if (fetched !== this.known) this.knownVersion += 1;
    this.known = fetched;
    this.options.onFetched();
  }
}

const boundedFetch: FetchImplementation = async (url, options) => {
  const response = await fetch(url, options);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxSetBytes) throw new Error(`the key set has more than ${maxSetBytes} bytes`);
    chunks.push(chunk);
  }
  return new Response(Buffer.concat(chunks), { status: response.status });
};
