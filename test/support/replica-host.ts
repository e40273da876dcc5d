import { type ChildProcess, fork } from "node:child_process";
import { createInterface } from "node:readline";
import { bundled } from "./bundle.mjs";

/** Then another process takes its place: what replicas leave in theirs does not add up. */
const replicasPerHost = 20;
/** So that replicas of one test run beside each other, as they do elsewhere. */
const hostsAtOnce = 2;
/** Only a start that hangs takes so long. */
const startTimeoutMs = 60_000;

export interface Ports {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly adminPort?: number;
}

export interface HostedReplica extends Ports {
  stop(): Promise<void>;
}

interface Answer {
  readonly id: number;
  readonly ports?: Ports;
  readonly error?: string;
}

/** A process that runs replicas for the tests of this one: replica-host.mjs. It does not keep this process alive, and ends with it. */
class ReplicaHost {
  private readonly child: ChildProcess;
  private readonly waiting = new Map<number, (answer: Answer) => void>();
  private readonly logs = new Map<string, (line: string) => void>();
  private started = 0;
  private running = 0;
  private ended: string | undefined;

  constructor(file: string) {
    this.child = fork(file, {
      // Nothing of the settings of this process reaches a replica.
      env: { PATH: process.env.PATH },
      execArgv: [],
      stdio: ["ignore", "pipe", "inherit", "ipc"],
    });
    this.child.on("message", (answer: Answer) => this.waiting.get(answer.id)?.(answer));
    this.child.once("exit", (code, signal) => {
      this.ended = `the process of the replicas has ended with ${signal ?? code}`;
      for (const [id, settle] of this.waiting) settle({ id, error: this.ended });
    });
    createInterface({ input: this.child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      const number = /"replica":"(\d+)"/.exec(line)?.[1] ?? "";
      this.logs.get(number)?.(line);
    });
    this.child.unref();
    this.child.channel?.unref();
    (this.child.stdout as unknown as { unref(): void }).unref();
  }

  get takesMore(): boolean {
    return this.ended === undefined && this.started < replicasPerHost;
  }

  async start(id: number, settings: Record<string, string>, onLine: (line: string) => void): Promise<HostedReplica> {
    this.started += 1;
    this.running += 1;
    this.logs.set(String(id), onLine);
    try {
      const { ports } = await this.ask(id, { start: settings });
      return { ...(ports as Ports), stop: () => this.stop(id) };
    } catch (error) {
      this.leave(id);
      throw error;
    }
  }

  private async stop(id: number): Promise<void> {
    await this.ask(id, { stop: true });
    this.leave(id);
  }

  private leave(id: number): void {
    this.logs.delete(String(id));
    this.running -= 1;
    if (this.running === 0 && !this.takesMore && this.child.connected) this.child.disconnect();
  }

  private async ask(id: number, message: object): Promise<Answer> {
    if (this.ended !== undefined) throw new Error(this.ended);
    const answer = await new Promise<Answer>((resolve) => {
      const timer = setTimeout(() => resolve({ id, error: "it did not answer in time" }), startTimeoutMs);
      this.waiting.set(id, (given) => {
        clearTimeout(timer);
        resolve(given);
      });
      this.child.send({ id, ...message });
    });
    this.waiting.delete(id);
    if (answer.error !== undefined) throw new Error(`replica: ${answer.error}`);
    return answer;
  }
}

/** Of this worker, which keeps them from one file to the next. */
const hosts: ReplicaHost[] = [];
let lastId = 0;

/** Replicas of one test have different `place`s. */
export async function startHosted(
  place: number,
  settings: Record<string, string>,
  onLine: (line: string) => void,
): Promise<HostedReplica> {
  const at = place % hostsAtOnce;
  const { host } = await bundled();
  if (!hosts[at]?.takesMore) hosts[at] = new ReplicaHost(host);
  lastId += 1;
  return await hosts[at].start(lastId, settings, onLine);
}
