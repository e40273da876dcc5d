import type { Principal } from "../../domain/principal.js";
import { inSlices } from "../../platform/slices.js";
import type { KeyChanges, KeyStore, StoredKey } from "../../storage/ports/keys.js";

/** Keys that hold at once, at most: some 60 MB of memory. */
const maxKeys = 100_000;
/** How often all are read again, and not only what has changed: for what was done to the table past the service. */
const readAllEveryMs = 60_000;

/** A key as calls are held against it. */
export interface KnownKey {
  readonly id: string;
  readonly hash: Uint8Array;
  /** In ms since 1970; Infinity: it does not expire. */
  readonly expiresMs: number;
  readonly isRevoked: boolean;
  readonly principal: Principal;
}

/**
 * All keys that hold, in memory. What has changed is read every second or so, so that what is revoked is refused soon, and no
 * call waits for Postgres. While Postgres is away the copy goes on as it is; it depends on nothing else. To be run as a job.
 */
export class KeyCopy {
  readonly name = "read keys";
  readonly pauseMs = 1_000;
  private keys = new Map<string, KnownKey>();
  /** Each once; maybe as it was before. */
  private list: KnownKey[] = [];
  private mark: string | undefined;
  private readAllAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly store: Pick<KeyStore, "readAll" | "readChanges">,
    private readonly max = maxKeys,
  ) {}

  get(id: string): KnownKey | undefined {
    return this.keys.get(id);
  }

  /** Any key, by chance: it lies as far away in memory as the one that somebody names. undefined: there is none. */
  decoy(chance: number): KnownKey | undefined {
    return this.list[chance % this.list.length];
  }

  get size(): number {
    return this.keys.size;
  }

  async run(): Promise<void> {
    const isDue = performance.now() - this.readAllAtMs >= readAllEveryMs;
    if (this.mark === undefined || isDue) await this.readAll();
    else await this.readChanges(this.mark);
  }

  private async readAll(): Promise<void> {
    // One more than fit, to know of it.
    const changes = await this.store.readAll(this.max + 1);
    const keys = new Map<string, KnownKey>();
    const { length } = changes.keys;
    await inSlices(length, (from, to) => {
      for (const key of changes.keys.slice(from, Math.min(to, this.max))) keys.set(key.id, known(key));
    });
    this.keys = keys;
    this.list = [...keys.values()];
    this.mark = changes.mark;
    this.readAllAtMs = performance.now();
    if (length > this.max) throw tooMany(this.max);
  }

  private async readChanges(mark: string): Promise<void> {
    const changes: KeyChanges = await this.store.readChanges(mark, this.max);
    // So many that some may be missing.
    if (changes.keys.length === this.max) return await this.readAll();
    let isFull = false;
    for (const key of changes.keys) {
      // Those that do not hold any more stay until all are read again: who brings one is told no, and the log says why.
      if (this.keys.has(key.id)) this.keys.set(key.id, known(key));
      else if (this.keys.size < this.max) this.add(known(key));
      else isFull = true;
    }
    this.mark = changes.mark;
    if (isFull) throw tooMany(this.max);
  }

  private add(key: KnownKey): void {
    this.keys.set(key.id, key);
    this.list.push(key);
  }
}

function tooMany(max: number): Error {
  return new Error(`there are more than ${max} keys that hold, and only so many are known: revoke what is not used`);
}

function known({ id, hash, caller, scopes, expiresAt, revokedAt }: StoredKey): KnownKey {
  return {
    ...{ id, hash },
    expiresMs: expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
    isRevoked: revokedAt !== null,
    principal: { id: `key:${caller}`, scopes: new Set(scopes) },
  };
}
