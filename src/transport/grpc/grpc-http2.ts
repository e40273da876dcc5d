import type { Http2Server } from "node:http2";
import type { Server } from "@grpc/grpc-js";

/** What grpc-js has no way to say about its HTTP/2 servers: found by name, so a test sees whether it is still there. */

/** Before the server listens. */
export function setHttp2Options(server: Server, options: object): void {
  Object.assign(Reflect.get(server, "commonServerOptions"), options);
}

/** After it has begun to listen: one for each address. */
export function http2ServersOf(server: Server): Http2Server[] {
  return [...(Reflect.get(server, "http2Servers") as Map<Http2Server, unknown>).keys()];
}
