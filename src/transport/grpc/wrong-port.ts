import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import { isHttp1, sniff } from "../sniff.js";
import type { SecurePort } from "../tls/secure-port.js";
import type { Tls } from "../tls/tls.js";

const advice =
  "This port serves native gRPC over HTTP/2. JSON, gRPC-Web and HTTP/1.1 are served on the other one (HTTP_PORT), gRPC too.\n";
/** gRPC with protobuf: who speaks gRPC-Web, or has another codec, could not read the answer. */
const grpcType = /^application\/grpc(\+proto)?\s*(;|$)/i;

/** Tells those who came to the wrong port which one is right. Over HTTP/1.1 they would hear bytes of HTTP/2 only. */
export class WrongPort {
  /** Of which it is not known yet what they speak. */
  private readonly unknown = new Set<Socket>();

  private readonly securePorts: SecurePort[] = [];

  constructor(
    private readonly deadlines: ArrivalDeadlines,
    private readonly tls: Tls | undefined,
  ) {}

  /** Stands before the server's own listener for connections. */
  watch(server: Http2Server): void {
    const listeners = server.listeners("connection") as ((socket: Socket) => void)[];
    server.removeAllListeners("connection");
    const serve = (socket: Socket) => {
      for (const listener of listeners) listener.call(server, socket);
    };
    if (this.tls) {
      const secure = this.tls.open((socket, isHttp2) => (isHttp2 ? serve(socket) : this.answer(socket, "h2")));
      this.securePorts.push(secure);
      server.on("connection", (socket: Socket) => {
        socket.on("error", () => socket.destroy());
        secure.accept(socket);
      });
      return;
    }
    server.on("connection", (socket: Socket) => {
      const forget = () => this.unknown.delete(socket);
      const destroy = () => socket.destroy();
      this.unknown.add(socket);
      socket.once("close", forget);
      socket.on("error", destroy);
      sniff(socket, this.deadlines, (isHttp2, seen) => {
        forget();
        socket.off("close", forget);
        if (!isHttp2 && isHttp1(seen)) return this.answer(socket, "h2c");
        socket.off("error", destroy);
        serve(socket);
      });
    });
  }

  /** Nobody waits for what connections without a word would have said. */
  close(): void {
    for (const socket of this.unknown) socket.destroy();
    for (const secure of this.securePorts) secure.close();
  }

  private answer(socket: Socket, upgrade: "h2" | "h2c"): void {
    const cut = this.deadlines.begin(() => socket.destroy());
    socket.once("close", () => this.deadlines.end(cut));
    socket.end(
      `HTTP/1.1 426 Upgrade Required\r\nupgrade: ${upgrade}\r\nconnection: upgrade, close\r\ncontent-type: text/plain\r\n` +
        `content-length: ${Buffer.byteLength(advice)}\r\n\r\n${advice}`,
    );
    // What is still to come is thrown away: a connection that is closed with something unread in it loses the answer.
    socket.resume();
  }
}

/** Whether a stream speaks gRPC; if not, it is answered. */
export function speaksGrpc(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): boolean {
  const isGrpc = grpcType.test(headers["content-type"] ?? "");
  if (isGrpc && headers[":method"] === "POST") {
    // grpc-js takes no capitals.
    headers["content-type"] = "application/grpc";
    return true;
  }
  const head = isGrpc ? { ":status": 405, allow: "POST" } : { ":status": 415 };
  stream.respond({ ...head, "content-type": "text/plain" });
  stream.end(isGrpc ? "A call of gRPC is a POST.\n" : advice);
  stream.resume();
  return false;
}
