import { EventEmitter, once } from "node:events";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type HealthCheckRequest,
  type HealthCheckResponseSchema,
  HealthCheckResponse_ServingStatus as Status,
  Health as service,
} from "../../../gen/grpc/health/v1/health_pb.js";
import { only, type StandardMethod } from "./standard-method.js";

type Told = MessageInitShape<typeof HealthCheckResponseSchema>;

const checkMs = 10_000;

/** The standard health service: of the server (""), and of each of its services. All of them serve, or none. */
export class Health {
  private isServing = true;
  private readonly names: ReadonlySet<string>;
  private readonly changes = new EventEmitter();

  constructor(services: readonly string[]) {
    this.names = new Set(["", ...services]);
    // One for each that watches, and these are bounded.
    this.changes.setMaxListeners(0);
  }

  get methods(): StandardMethod[] {
    const { check, list, watch } = service.method;
    return [
      { method: check, limitMs: checkMs, answer: (requests) => this.check(requests) },
      { method: list, limitMs: checkMs, answer: (requests) => this.list(requests) },
      {
        method: watch,
        limitMs: Number.POSITIVE_INFINITY,
        answer: (requests, signal) => this.watch(requests, signal),
      },
    ];
  }

  setServing(isServing: boolean): void {
    this.isServing = isServing;
    this.changes.emit("change");
  }

  private get status(): Status {
    return this.isServing ? Status.SERVING : Status.NOT_SERVING;
  }

  private async *check(requests: AsyncIterable<HealthCheckRequest>): AsyncIterable<Told> {
    const { service: name } = await only(requests);
    if (!this.names.has(name)) throw new ConnectError("there is no such service", Code.NotFound);
    yield { status: this.status };
  }

  private async *list(requests: AsyncIterable<unknown>) {
    await only(requests);
    yield { statuses: Object.fromEntries([...this.names].map((name) => [name, { status: this.status }])) };
  }

  private async *watch(requests: AsyncIterable<HealthCheckRequest>, signal: AbortSignal): AsyncIterable<Told> {
    const { service: name } = await only(requests);
    let told: Status | undefined;
    for (;;) {
      // Listens before it tells: what changes meanwhile is not missed.
      const change = once(this.changes, "change", { signal });
      change.catch(() => {});
      const status = this.names.has(name) ? this.status : Status.SERVICE_UNKNOWN;
      if (status !== told) yield { status };
      told = status;
      await change;
    }
  }
}
