import * as grpc from "@grpc/grpc-js";

/**
 * grpc-js with nothing of ours before or behind it: a health check whose messages are the same bytes each time. What is
 * left of it through the whole front end is what the front end costs.
 */
const bytesAsTheyAre = (bytes: Buffer) => bytes;
/** A HealthCheckResponse: `status: SERVING`. */
const serving = Buffer.from([0x08, 0x01]);

const server = new grpc.Server();
const check = {
  ...{ path: "/grpc.health.v1.Health/Check", requestStream: false, responseStream: false },
  ...{ requestSerialize: bytesAsTheyAre, requestDeserialize: bytesAsTheyAre },
  ...{ responseSerialize: bytesAsTheyAre, responseDeserialize: bytesAsTheyAre },
};
const answer: grpc.handleUnaryCall<Buffer, Buffer> = (_call, callback) => callback(null, serving);
server.addService({ check }, { check: answer });
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, grpcPort) => {
  if (error) throw error;
  process.stdout.write(`${JSON.stringify({ event: "serving", grpcPort, httpPort: 0, pid: process.pid })}\n`);
});
process.stdin.resume().once("close", () => process.exit());
process.once("SIGTERM", () => process.exit());
