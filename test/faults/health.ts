import * as grpc from "@grpc/grpc-js";

const words = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const timeoutMs = 10_000;

/** Asks grpc.health.v1 as a load balancer does; "" is the server as a whole. */
export function health(port: number, service = ""): Promise<string> {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
  });
  const same = (bytes: Buffer) => bytes;
  // The request's only field is the service's name, the answer's only field is the status.
  const request = Buffer.concat([Buffer.from([0x0a, service.length]), Buffer.from(service)]);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      "/grpc.health.v1.Health/Check",
      same,
      same,
      request,
      new grpc.Metadata(),
      { deadline: Date.now() + timeoutMs },
      (error, answer) => {
        client.close();
        if (error) reject(error);
        else resolve(words[(answer as Buffer)[1] ?? 0] ?? "");
      },
    );
  });
}
