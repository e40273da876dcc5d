import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Server } from "@grpc/grpc-js";

/** What grpc-js has no way to set about its HTTP/2 servers: found by name, so a test sees whether it is still there. */

/** Before the server listens. */
export function setHttp2Options(server: Server, options: object): void {
  Object.assign(Reflect.get(server, "commonServerOptions"), options);
}

/** Makes a call of a stream. The headers are what it is to see, and may be other ones than those that came. */
export type Serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

export interface Http2Watch {
  session(session: ServerHttp2Session): void;
  /** Instead of grpc-js, which sees the streams that are handed to `serve`, sooner or later, and no others. */
  stream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, serve: Serve): void;
}

/** After it has begun to listen. Answers the servers that listen, one for each address. */
export function watchHttp2(server: Server, watch: Http2Watch): Http2Server[] {
  const servers = [...(Reflect.get(server, "http2Servers") as Map<Http2Server, unknown>).keys()];
  for (const http2Server of servers) {
    const listeners = http2Server.listeners("stream") as Serve[];
    const serve: Serve = (stream, headers) => {
      for (const listener of listeners) listener.call(http2Server, stream, headers);
    };
    http2Server.removeAllListeners("stream");
    http2Server.on("stream", (stream, headers) => watch.stream(stream, headers, serve));
    http2Server.on("session", (session) => watch.session(session));
  }
  return servers;
}
