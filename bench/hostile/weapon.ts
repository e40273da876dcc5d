import type { DescMethodUnary } from "@bufbuild/protobuf";
import type postgres from "postgres";
import type { Tally } from "../load/tally.js";
import type { Api } from "../support/api.js";
import type { BystanderWorld } from "./bystander.js";

/**
 * One way to harm the service. To add one, write it under `weapons/` and list it in `weapons/index.ts`. What it needs
 * in the stores is made by the benchmark's process; it is fired from a process of its own, so that what it costs the
 * attacker does not count as what it does to others.
 */
export interface Weapon {
  readonly name: string;
  /** What is sent, in one sentence. */
  readonly what: string;
  /** How long it is fired; absent: as long as the others. */
  readonly seconds?: number;
  prepare?(stage: Stage): Promise<Prepared>;
  /**
   * Makes what it will send, waits for `begin`, sends until `untilMs`, and resolves when every answer has come or is
   * overdue. How each call ended goes to `tally`: OK, the reason of a refusal, or one of the names in `outcomes.ts`.
   */
  fire(field: Field): Promise<void>;
}

/** What `prepare` works with. */
export interface Stage {
  readonly api: Api;
  readonly sql: postgres.Sql;
  readonly bystander: BystanderWorld;
  /** Calls that the bystander makes until the weapon's end. */
  readonly bystanderCalls: number;
  /** Calls a second that so many callers get through, each sending its next when the last is answered. */
  rateOf(method: DescMethodUnary, messages: Iterable<Uint8Array>, callers: number): Promise<number>;
}

export interface Prepared {
  /** What `fire` gets. */
  readonly ammunition?: readonly (string | Uint8Array)[];
  /** What the bystander calls; absent: lists, issues and coupons of its own. */
  readonly bystander?: readonly BystanderCall[];
  /** What the weapon's own rate is compared with. */
  readonly referencePerSecond?: number;
}

export interface BystanderCall {
  /** "/coupon.v1.IssuanceService/IssueCoupon" */
  readonly method: string;
  readonly message: Uint8Array;
}

export interface Target {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly redisUrl: string;
}

/** What `fire` works with. */
export interface Field extends Target {
  readonly ammunition: readonly (string | Uint8Array)[];
  /** On the clock of `Date.now()`. */
  readonly untilMs: number;
  readonly tally: Tally;
  /** Resolves when the time has come to send. */
  begin(): Promise<void>;
  /** Something that a reader of the report should know. */
  note(text: string): void;
  /** Something that must not be so, besides what is true of every weapon. */
  miss(text: string): void;
}

/** What the weapon's process is told to do, and what it found. */
export interface WeaponJob extends Target {
  readonly weapon: string;
  readonly ammunition: readonly (string | Uint8Array)[];
  readonly fireAtMs: number;
  readonly untilMs: number;
}

export interface Fired {
  readonly outcomes: Readonly<Record<string, number>>;
  /** From the first call to the last answer. */
  readonly seconds: number;
  readonly notes: readonly string[];
  readonly misses: readonly string[];
}
