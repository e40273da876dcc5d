import { Client, connectivityState, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";

/** How long all channels together may take to connect before the load starts. */
const connectTimeoutMs = 10_000;
/** A server that was killed and comes back is found again this quickly, at the latest. */
const maxReconnectBackoffMs = 1_000;

export interface ChannelsOptions {
  /** "host:port" of each replica. */
  readonly targets: readonly string[];
  /** HTTP/2 connections to each target. */
  readonly connectionsPerTarget: number;
  /** Of each call. */
  readonly headers?: Readonly<Record<string, string>>;
}

export type Done = (error: ServiceError | null, response: Buffer | undefined) => void;

/**
 * Raw unary calls over several replicas in turn, each with several HTTP/2 connections. Requests and responses are bytes,
 * so that the caller decides what is worth decoding.
 */
export class Channels {
  readonly #clients: Client[] = [];
  readonly #metadata = new Metadata();
  #next = 0;

  constructor({ targets, connectionsPerTarget, headers = {} }: ChannelsOptions) {
    for (const [name, value] of Object.entries(headers)) this.#metadata.set(name, value);
    if (targets.length === 0) throw new Error("There is no target to call.");
    // One connection of every target before the second of any: neighbours in the list are different replicas.
    for (let connection = 0; connection < connectionsPerTarget; connection += 1) {
      for (const target of targets) {
        const options = {
          // Without a pool of its own, every client of one target would share one connection.
          "grpc.use_local_subchannel_pool": 1,
          // What is retried is counted here; the channel must not do it behind our back.
          "grpc.enable_retries": 0,
          "grpc.service_config_disable_resolution": 1,
          "grpc.initial_reconnect_backoff_ms": 100,
          "grpc.max_reconnect_backoff_ms": maxReconnectBackoffMs,
        };
        this.#clients.push(new Client(target, credentials.createInsecure(), options));
      }
    }
  }

  async connect(): Promise<void> {
    const deadline = Date.now() + connectTimeoutMs;
    const ready = (client: Client) =>
      new Promise<void>((resolve, reject) => {
        client.waitForReady(deadline, (error) => (error ? reject(error) : resolve()));
      });
    await Promise.all(this.#clients.map(ready));
  }

  /** Sends to the next replica that is not known to be away. */
  send(method: string, request: Buffer, timeoutMs: number, done: Done): void {
    const options = { deadline: Date.now() + timeoutMs };
    this.#pick().makeUnaryRequest(method, asIs, asIs, request, this.#metadata.clone(), options, done);
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  #pick(): Client {
    const count = this.#clients.length;
    for (let tried = 0; tried < count; tried += 1) {
      const client = this.#clients[this.#next % count]!;
      this.#next = (this.#next + 1) % count;
      if (client.getChannel().getConnectivityState(true) !== connectivityState.TRANSIENT_FAILURE) return client;
    }
    return this.#clients[this.#next % count]!;
  }
}

function asIs(bytes: Buffer): Buffer {
  return bytes;
}
