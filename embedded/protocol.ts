/** The two servers, named as in {@link SupervisorOptions.servers}. */
export type ServerName = "postgres" | "redis";

/** What the launcher hands to the supervisor, as JSON in its only argument. */
export interface SupervisorOptions {
  /** An absolute folder that is kept. Absent: a temporary one. */
  readonly dataDir?: string;
  /** What to do when the folder is in use. */
  readonly ifInUse?: string;
  readonly servers: readonly ServerName[];
}

/** Something that happened to the servers, for a caller that wants to show or log it. */
export type EmbeddedEvent =
  /** A slow step began, such as a first download. */
  | { readonly type: "progress"; readonly text: string }
  /** A server died and is back on its port. */
  | { readonly type: "restarted"; readonly server: ServerName; readonly pid: number; readonly reason: string }
  /** A server died and did not come back; the supervisor goes on trying. */
  | { readonly type: "restart-failed"; readonly server: ServerName; readonly reason: string }
  /** The supervisor itself is gone, and the servers with it. */
  | { readonly type: "lost"; readonly reason: string };

export interface ReadyMessage {
  readonly type: "ready";
  readonly dataDir: string;
  readonly databaseUrl?: string;
  readonly postgresPid?: number;
  readonly redisUrl?: string;
  readonly redisPid?: number;
  /** How a shell has the command line that came with Redis speak to it, password and all. */
  readonly redisCli?: string;
  readonly redisUnavailable?: string;
}

/** One JSON line on the supervisor's standard output. */
export type SupervisorMessage =
  | ReadyMessage
  | EmbeddedEvent
  /** Sent before anything starts, so that the launcher can clean up after a supervisor that was killed. */
  | { readonly type: "folder"; readonly path: string; readonly temporary: boolean }
  | { readonly type: "failed"; readonly message: string };
