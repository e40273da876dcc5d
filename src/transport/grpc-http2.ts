import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Server } from "@grpc/grpc-js";

/** What grpc-js has no way to set about its HTTP/2 servers: found by name, so a test sees whether it is still there. */

/** Before the server listens. */
export function setHttp2Options(server: Server, options: object): void {
  Object.assign(Reflect.get(server, "commonServerOptions"), options);
}

/** After it has begun to listen. `watch` sees each stream before grpc-js does. */
export function watchStreams(
  server: Server,
  watch: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void,
): void {
  const http2Servers: Map<Http2Server, unknown> = Reflect.get(server, "http2Servers");
  for (const http2Server of http2Servers.keys()) http2Server.prependListener("stream", watch);
}
