import type { Sql } from "postgres";
import { addressOf, type DatabaseServer, databaseServers } from "../../../platform/database-url.js";
import { errorCode } from "../../../platform/error-code.js";
import { within } from "../../../platform/within.js";
import { NotPrimary, translateError } from "../errors.js";
import { askState, openClient, reachSync, type ServerState, saysNotSynced } from "./server-state.js";
import { SyncPoint } from "./sync-point.js";

const connectTimeoutS = 2;
/** To connect and to ask what a server is. */
const askTimeoutMs = 2_500;
/** When one is found to be the primary, how long the others may still say that they are, too, and newer. */
const graceMs = 300;
/** Between two looks at the servers that are not the primary. */
const watchEveryMs = 1_000;
/** How long a new connection waits until what the server shows has arrived on its standbys. */
const syncPatienceMs = 2_000;
/** How long the question for that may wait for an answer before it is asked anew. */
const syncTimeoutMs = 60_000;
/** The class of SQLSTATEs of a server that has no connection to spare, and is there all the same. */
const noRoom = "53";

export interface Move {
  readonly from: string;
  readonly to: string;
  readonly timeline: number | null;
}

export interface PrimaryOptions {
  readonly url: string;
  readonly applicationName?: string;
  readonly synchronousCommit?: string;
  /** Another server is the primary, or the same address leads to one that was promoted. */
  readonly onMoved?: (move: Move) => void;
  /** Of each server that is watched, how it was found: a standby that can be reached is in order. */
  readonly onWatched?: (server: string, error?: unknown) => void;
}

/**
 * Knows which of the servers is the primary: one that is no standby, can be written to, belongs to the same cluster as ever, and
 * has not been left behind by a promotion that was seen. All connections are made to that one.
 */
export class Primary {
  /** Connections of an earlier term are not used any more. */
  term = 1;
  private readonly servers: readonly DatabaseServer[];
  private current: DatabaseServer | undefined;
  private last: DatabaseServer | undefined;
  private finding: Promise<DatabaseServer> | undefined;
  private cluster: string | null = null;
  private timeline: number | null = null;
  private sync: SyncPoint;
  private readonly clients = new Map<DatabaseServer, Sql>();
  private readonly watch: NodeJS.Timeout | undefined;
  private isLooking = false;
  private isClosed = false;

  constructor(private readonly options: PrimaryOptions) {
    this.servers = databaseServers(options.url);
    if (this.servers.length === 1) this.current = this.servers[0];
    this.sync = this.syncPoint();
    if (options.onWatched && this.servers.length > 1) {
      this.watch = setInterval(() => void this.look(), watchEveryMs).unref();
    }
  }

  /** The one to connect to. Throws NotPrimary when there is none. */
  server(): DatabaseServer | Promise<DatabaseServer> {
    return this.current ?? this.find();
  }

  /**
   * Asks on a new connection whether it is the right server, and waits until what it shows cannot be lost with it. Answers the
   * term of the connection.
   */
  async admit(server: DatabaseServer, sql: Sql): Promise<number> {
    await this.confirm(server, sql);
    const { term, sync } = this;
    await within(sync.reach(), syncPatienceMs, () => {
      throw new NotPrimary(`${addressOf(server)} waits for its standbys`);
    });
    return term;
  }

  /** The same without the wait. */
  async confirm(server: DatabaseServer, sql: Sql): Promise<void> {
    const state = await askState(sql);
    const objection = this.objectionTo(state);
    if (objection) {
      this.leave(server);
      throw new NotPrimary(`${addressOf(server)} ${objection}`);
    }
    this.accept(server, state);
  }

  /** A connection could not be made. Answers whether it is worth looking for another server at once. */
  failed(server: DatabaseServer, error: unknown): boolean {
    const isAway = translateError(error) !== error && !errorCode(error)?.startsWith(noRoom);
    if (!isAway || this.servers.length === 1) return false;
    if (this.current === server) this.current = undefined;
    return true;
  }

  /** A statement found that nothing can be written there. */
  leave(server: DatabaseServer | undefined): void {
    if (!server || this.current !== server) return;
    this.term += 1;
    if (this.servers.length > 1) this.current = undefined;
  }

  /** A connection was lost: the server may have crashed, and shows what nobody was told. */
  doubt(): void {
    this.sync.doubt();
  }

  /** A COMMIT was not waited for: what it did is seen by all, and may be lost with the server. */
  distrust(): void {
    this.term += 1;
    this.sync.doubt();
  }

  /** Asks all servers, also when there is only one. */
  find(): Promise<DatabaseServer> {
    this.finding ??= this.findNow().finally(() => {
      this.finding = undefined;
    });
    return this.finding;
  }

  /** Resolves when there is one, and what it commits arrives where it must. */
  async ready(): Promise<void> {
    await this.find();
    await this.sync.reach();
  }

  /** What `ready` waits for. */
  notReady(): NotPrimary {
    const names = this.servers.map(addressOf).join(", ");
    return new NotPrimary(
      this.last ? `${addressOf(this.last)} waits for its standbys before it commits` : `no answer from ${names}`,
    );
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearInterval(this.watch);
    await Promise.all([...this.clients.values()].map((client) => client.end({ timeout: 0 })));
  }

  private async findNow(): Promise<DatabaseServer> {
    const found = new Map<DatabaseServer, ServerState>();
    const reasons: string[] = [];
    let fault: unknown;
    let onFound = () => {};
    const first = new Promise<void>((resolve) => {
      onFound = resolve;
    });
    const asks = this.servers.map(async (server) => {
      try {
        const state = await this.ask(server);
        const objection = this.objectionTo(state);
        if (objection) reasons.push(`${addressOf(server)} ${objection}`);
        else found.set(server, state);
      } catch (error) {
        reasons.push(`${addressOf(server)}: ${reasonOf(error)}`);
        if (translateError(error) === error) fault ??= error;
      }
      if (found.size > 0) onFound();
    });
    const all = Promise.all(asks).then(() => {});
    await Promise.race([all, first.then(() => within(all, graceMs, () => {}))]);
    const [best] = [...found].sort(
      ([one, a], [other, b]) =>
        (b.timeline ?? 0) - (a.timeline ?? 0) || Number(other === this.last) - Number(one === this.last),
    );
    if (!best) throw fault ?? new NotPrimary(`there is no Postgres to write to: ${reasons.join("; ")}`);
    this.accept(...best);
    this.forget(best[0]);
    return best[0];
  }

  /** Whether one of the others has been promoted, while the one in use does not know it. */
  private async look(): Promise<void> {
    if (this.isLooking || !this.current) return;
    this.isLooking = true;
    const watched = this.servers.filter((server) => server !== this.current);
    await Promise.all(
      watched.map(async (server) => {
        try {
          const state = await this.ask(server);
          if (state.recovering) this.options.onWatched?.(addressOf(server));
          else this.judgeRival(server, state);
        } catch (error) {
          this.options.onWatched?.(addressOf(server), error);
        }
      }),
    );
    this.isLooking = false;
  }

  private judgeRival(server: DatabaseServer, state: ServerState): void {
    const objection = this.objectionTo(state);
    if (!objection && (state.timeline ?? 0) > (this.timeline ?? 0)) {
      this.accept(server, state);
      this.forget(server);
    } else if (this.current !== server) {
      throw new NotPrimary(objection ?? "is a primary, too, and nothing says which of the two is the right one");
    }
  }

  /** What speaks against writing there. */
  private objectionTo({ recovering, readonly, cluster, timeline }: ServerState): string | null {
    if (recovering) return "is a standby";
    if (readonly) return "is read-only";
    if (cluster !== null && this.cluster !== null && cluster !== this.cluster) return "belongs to another cluster";
    if (timeline !== null && this.timeline !== null && timeline < this.timeline) {
      return `was left behind: it is on timeline ${timeline}, and ${this.timeline} was seen`;
    }
    return null;
  }

  private accept(server: DatabaseServer, { cluster, timeline }: ServerState): void {
    const isPromoted = this.timeline !== null && timeline !== null && timeline > this.timeline;
    const from = this.last;
    this.cluster ??= cluster;
    this.timeline = timeline ?? this.timeline;
    this.current = server;
    this.last = server;
    if (!from || (from === server && !isPromoted)) return;
    this.term += 1;
    this.sync = this.syncPoint();
    this.options.onMoved?.({ from: addressOf(from), to: addressOf(server), timeline });
  }

  private syncPoint(): SyncPoint {
    return new SyncPoint(async () => {
      const { applicationName = "coupon-service", synchronousCommit = "on" } = this.options;
      const server = await this.server();
      let isCutOff = false;
      const client = openClient(server, {
        ...{ max: 1, connect_timeout: connectTimeoutS, fetch_types: false, backoff: false },
        onnotice: (notice) => {
          if (saysNotSynced(notice)) isCutOff = true;
        },
        connection: {
          application_name: `${applicationName} sync`,
          synchronous_commit: synchronousCommit,
          client_min_messages: "warning",
        },
      });
      try {
        await within(reachSync(client), syncTimeoutMs, () => {
          throw new NotPrimary(`${addressOf(server)} waits for its standbys`);
        });
        if (isCutOff) throw new NotPrimary(`${addressOf(server)} does not wait for its standbys`);
      } finally {
        void client.end({ timeout: 0 });
      }
    });
  }

  private async ask(server: DatabaseServer): Promise<ServerState> {
    let client = this.clients.get(server);
    if (!client) {
      client = openClient(server, {
        ...{ max: 1, connect_timeout: connectTimeoutS, fetch_types: false, backoff: false, onnotice: () => {} },
        connection: { application_name: `${this.options.applicationName ?? "coupon-service"} watch` },
      });
      this.clients.set(server, client);
    }
    try {
      return await within(askState(client), askTimeoutMs, () => {
        throw new NotPrimary("no answer in time");
      });
    } catch (error) {
      this.forget(server);
      throw error;
    } finally {
      if (this.isClosed) this.forget(server);
    }
  }

  /** Ends the connection by which a server was asked. */
  private forget(server: DatabaseServer): void {
    void this.clients.get(server)?.end({ timeout: 0 });
    this.clients.delete(server);
  }
}

function reasonOf(error: unknown): string {
  return (error instanceof Error && error.message) || errorCode(error) || String(error);
}
