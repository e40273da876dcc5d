import type { Principal } from "../../domain/principal.js";
import { steadyMs } from "../../platform/clock.js";
import { SharedReads } from "../../platform/shared-reads.js";
import { within } from "../../platform/within.js";
import type { KeyPage, KeyStore, StoredKey } from "../../storage/ports/keys.js";

/** A key as calls are held against it. */
export interface KnownKey {
  readonly id: string;
  readonly hash: Uint8Array;
  /** In ms since 1970; Infinity: it does not expire. */
  readonly expiresMs: number;
  readonly isRevoked: boolean;
  readonly principal: Principal;
}

export interface KeyCopyOptions {
  /** Keys that are known at most. */
  readonly maxKeys?: number;
  /** Keys that are read at once: what is read is worked on in one piece. */
  readonly pageSize?: number;
  /** Pages of one run at most, so that the next look for changes does not come late. */
  readonly pagesOfRun?: number;
  /** How often all are read again, and not only what has changed: for what was done to the table past the service. */
  readonly readAllEveryMs?: number;
}

/** Whoever waits longer is not helped by it: the job has looked by then. */
const maxCatchUpMs = 2_000;

const defaults = { maxKeys: 100_000, pageSize: 1_000, pagesOfRun: 5, readAllEveryMs: 60_000 };

/**
 * All keys that hold, in memory. What has changed is read every second or so, so that what is revoked is refused soon, and no
 * call waits for Postgres. While Postgres is away the copy goes on as it is; it depends on nothing else. To be run as a job.
 */
export class KeyCopy {
  readonly name = "read keys";
  readonly pauseMs = 1_000;
  private readonly options: Required<KeyCopyOptions>;
  private keys: KeySet;
  /** Where the next look for changes begins; undefined: none was made yet. */
  private mark: string | undefined;
  /** What is read while all are read again, and after which key that goes on. */
  private next: { readonly keys: KeySet; readonly after: string } | undefined;
  private readAllAtMs = Number.NEGATIVE_INFINITY;
  /** One at a time: an older page must not be put over a newer one. */
  private readonly runs = new SharedReads(() => this.runNow());

  constructor(
    private readonly store: Pick<KeyStore, "readPage">,
    options: KeyCopyOptions = {},
  ) {
    this.options = { ...defaults, ...options };
    this.keys = new KeySet(this.options.maxKeys);
  }

  get(id: string): KnownKey | undefined {
    return this.keys.get(id);
  }

  /** Any key, by chance: it lies as far away in memory as the one that somebody names. undefined: there is none. */
  decoy(chance: number): KnownKey | undefined {
    return this.keys.any(chance);
  }

  get size(): number {
    return this.keys.size;
  }

  run(): Promise<void> {
    return this.runs.read("all");
  }

  /**
   * Resolves when what was committed before the call is known, for whoever has changed keys and says so next. It takes half of
   * the time that is left at most, and never rejects: the next run finds the same, and says what is wrong.
   */
  async catchUp(deadlineMs: number): Promise<void> {
    const waitMs = Math.min(maxCatchUpMs, Math.max(0, deadlineMs - steadyMs()) / 2);
    await within(this.run(), waitMs, () => {}).catch(() => {});
  }

  private async runNow(): Promise<void> {
    const isFirst = this.mark === undefined;
    if (this.mark !== undefined) await this.readChanges(this.mark);
    const isDue = performance.now() - this.readAllAtMs >= this.options.readAllEveryMs;
    if (isDue) this.next ??= { keys: new KeySet(this.options.maxKeys), after: "0" };
    for (let page = 0; this.next && (isFirst || page < this.options.pagesOfRun); page++) {
      await this.readPage(this.next);
    }
    if (this.keys.isFull) throw new Error(tooMany(this.options.maxKeys));
  }

  private async readChanges(since: string): Promise<void> {
    let mark: string | undefined;
    for (let after: string | null = "0"; after !== null; ) {
      const page: KeyPage = await this.store.readPage(since, after, this.options.pageSize);
      for (const key of page.keys) {
        // Those that do not hold any more stay until all are read again: who brings one is told no, and the log says why.
        this.keys.put(key);
        this.next?.keys.put(key);
      }
      mark ??= page.mark;
      after = page.next;
    }
    this.mark = mark;
  }

  private async readPage({ keys, after }: NonNullable<typeof this.next>): Promise<void> {
    const page = await this.store.readPage(null, after, this.options.pageSize);
    // What changes while the pages are read is found from the first one on.
    this.mark ??= page.mark;
    for (const key of page.keys) keys.put(key);
    if (page.next !== null && !keys.isFull) {
      this.next = { keys, after: page.next };
      return;
    }
    this.keys = keys;
    this.next = undefined;
    this.readAllAtMs = performance.now();
  }
}

class KeySet {
  /** Whether there was one that did not fit. */
  isFull = false;
  private readonly byId = new Map<string, KnownKey>();
  /** Each once; maybe as it was before. */
  private readonly list: KnownKey[] = [];
  private readonly principals = new Map<string, Principal>();

  constructor(private readonly max: number) {}

  get size(): number {
    return this.list.length;
  }

  get(id: string): KnownKey | undefined {
    return this.byId.get(id);
  }

  any(chance: number): KnownKey | undefined {
    return this.list[chance % this.list.length];
  }

  put(stored: StoredKey): void {
    const isNew = !this.byId.has(stored.id);
    if (isNew && this.size === this.max) {
      this.isFull = true;
      return;
    }
    const { id, hash, expiresAt, revokedAt } = stored;
    const key = {
      ...{ id, hash },
      expiresMs: expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
      isRevoked: revokedAt !== null,
      principal: this.principalOf(stored),
    };
    this.byId.set(id, key);
    if (isNew) this.list.push(key);
  }

  /** Keys of one caller that allow the same share it. */
  private principalOf({ caller, scopes, limits }: StoredKey): Principal {
    const name = [caller, ...scopes, JSON.stringify(limits)].join(" ");
    let principal = this.principals.get(name);
    if (!principal) {
      principal = { id: `key:${caller}`, scopes: new Set(scopes), ...(limits && { limits }) };
      this.principals.set(name, principal);
    }
    return principal;
  }
}

function tooMany(max: number): string {
  return `there are more than ${max} keys that hold, and only so many are known: revoke what is not used`;
}
