import { expectOnly, type Row } from "../row.js";

/** A HealthCheckRequest without a service name, which asks for the whole server, is an empty message. */
const emptyMessage = new Uint8Array();

export const bare: Row = {
  name: "bare",
  title: "health check: grpc-js alone, empty messages",
  async prepare({ bareTarget }) {
    return {
      target: bareTarget,
      method: "/grpc.health.v1.Health/Check",
      messages: [emptyMessage],
      verify: async (measured) => expectOnly(measured, "OK"),
    };
  },
};
