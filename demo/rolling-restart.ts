import { setTimeout as sleep } from "node:timers/promises";
import { rounded } from "../bench/support/numbers.js";
import { type Replica, type ReplicaStores, startReplica } from "../bench/support/replica.js";

/** A deployment does not go on with the next replica the moment that one serves. */
const betweenMs = 300;

/**
 * The replicas of the sale. Each can be replaced by a new process in the middle of it, one after the other, as a deployment
 * does: the old one ends what it has accepted, and the new one listens at the same address.
 */
export class Replicas {
  private constructor(
    private readonly stores: ReplicaStores,
    private readonly running: Replica[],
  ) {}

  static async start(stores: ReplicaStores, count: number): Promise<Replicas> {
    const starting = Array.from({ length: count }, () => startReplica(stores));
    const started = await Promise.allSettled(starting);
    const replicas = started.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    const failed = started.find((one) => one.status === "rejected");
    if (!failed) return new Replicas(stores, replicas);
    await Promise.all(replicas.map((replica) => replica.stop()));
    throw failed.reason;
  }

  get list(): readonly Replica[] {
    return this.running;
  }

  /** Ends when all have been replaced, or when `signal` says that the sale is over: then the rest stays as it is. */
  async restartInTurn(say: (text: string) => void, signal: AbortSignal): Promise<number> {
    let restarted = 0;
    for (const [index, old] of this.running.entries()) {
      if (signal.aborted) break;
      const { grpcPort, httpPort } = old;
      const startedAtMs = performance.now();
      await old.stop();
      const stoppedAtMs = performance.now();
      const next = await startReplica(this.stores, {
        settings: { GRPC_PORT: String(grpcPort), HTTP_PORT: String(httpPort) },
      });
      this.running[index] = next;
      restarted += 1;
      const [downS, upS] = [stoppedAtMs - startedAtMs, performance.now() - stoppedAtMs].map((ms) =>
        rounded(ms / 1_000, 1),
      );
      say(
        `  replica ${index + 1} (pid ${old.pid}) ended its calls in ${downS} s; pid ${next.pid} serves ${upS} s later.`,
      );
      await sleep(betweenMs, undefined, { signal }).catch(() => {});
    }
    return restarted;
  }

  async stop(): Promise<void> {
    await Promise.allSettled(this.running.map((replica) => replica.stop()));
  }
}
