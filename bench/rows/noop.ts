import { protoPath } from "grpc-health-check";
import { expectOnly, type Row } from "../row.js";

/** A HealthCheckRequest without a service name, which asks for the whole server, is an empty message. */
const emptyMessage = new Uint8Array();

export const noop: Row = {
  name: "noop",
  title: "no-op RPC (health check): the ceiling of the front end",
  async prepare() {
    return {
      method: "/grpc.health.v1.Health/Check",
      protoFile: protoPath,
      messages: [emptyMessage],
      verify: async (measured) => expectOnly(measured, "OK"),
    };
  },
};
