import * as grpc from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";

type Watch = grpc.ServerWritableStream<unknown, unknown>;

/** The standard health service: of the server (""), and of each of its services. */
export class Health {
  private readonly implementation: HealthImplementation;
  private readonly watches = new Set<Watch>();

  constructor(private readonly names: readonly string[]) {
    this.implementation = new HealthImplementation(Object.fromEntries(names.map((name) => [name, "SERVING"])));
  }

  addTo(server: grpc.Server): void {
    // The library does not say who watches, and they are to be told when the server stops.
    this.implementation.addToServer({
      addService: (definition: grpc.ServiceDefinition, handlers: { watch(call: Watch): void }) => {
        const watch = (call: Watch) => {
          this.watches.add(call);
          call.once("cancelled", () => this.watches.delete(call));
          handlers.watch(call);
        };
        server.addService(definition, { ...handlers, watch } as never);
      },
    } as unknown as grpc.Server);
  }

  setServing(isServing: boolean): void {
    for (const name of this.names) this.implementation.setStatus(name, isServing ? "SERVING" : "NOT_SERVING");
  }

  /** Ends the streams of those who watch, who are to watch another server: else they would hold this one up. */
  close(): void {
    for (const call of this.watches) {
      call.emit("error", { code: grpc.status.UNAVAILABLE, details: "the server stops; watch another one" });
    }
    this.watches.clear();
  }
}
