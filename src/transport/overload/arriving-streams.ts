import { EventEmitter } from "node:events";
import {
  constants,
  type Http2Server,
  type Http2Session,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { provenConnectionStreams, provingCalls } from "../http2-limits.js";
import type { ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import { OpenStreams } from "../open-streams.js";
import type { Route } from "../routes.js";
import type { Permit } from "./admission.js";
import { ArrivingStream } from "./arriving-stream.js";
import type { Sheddable } from "./connection-shedder.js";
import { FirstBytes } from "./first-bytes.js";
import type { LoadShedder } from "./load-shedder.js";
import { ReadTurns } from "./read-turns.js";
import { SessionEnds } from "./session-ends.js";

interface Connection extends Sheddable {
  openStreams: number;
  /** Calls that have come to their end. */
  wholeCalls: number;
  /** It is proven. */
  allowMore(): void;
}

/** What Node tells the listeners of a server's streams. */
type Told = [headers: IncomingHttpHeaders, flags: number, rawHeaders: string[]];
type Listener = (stream: ServerHttp2Stream, ...told: Told) => void;

/** What a front end makes of its streams. */
export interface StreamFrontEnd {
  routeOf(path: string, headers: IncomingHttpHeaders): Route | undefined;
  /** In ms since 1970; Infinity: the caller did not say. */
  deadlineOf(headers: IncomingHttpHeaders): number;
  /** What a refusal says besides, to whoever sent these. */
  headersFor?(headers: IncomingHttpHeaders): OutgoingHttpHeaders | undefined;
  /** A call that was let in. */
  begin(arriving: ArrivingStream, route: Route, permit: Permit, deadlineMs: number): void;
  /** Whatever is none of our calls. */
  other(arriving: ArrivingStream): void;
}

/** Stands before the library that serves an HTTP/2 port: it sees only those streams for which there is a permit. */
export class ArrivingStreams {
  private readonly turns: ReadTurns;
  private readonly ends = new SessionEnds();
  private readonly firstBytes = new FirstBytes();
  private readonly open = new OpenStreams();
  private readonly connections = new WeakMap<Http2Session, Connection>();

  constructor(
    private readonly loadShedder: LoadShedder,
    private readonly deadlines: ArrivalDeadlines,
    private readonly frontEnd: StreamFrontEnd,
  ) {
    this.turns = new ReadTurns(loadShedder);
  }

  /** Takes the place of the library's own listeners. */
  watch(server: Http2Server): void {
    const listeners = server.listeners("stream") as Listener[];
    server.removeAllListeners("stream");
    server.on("session", (session) => this.opened(session));
    server.on("stream", (stream, ...told: Told) =>
      this.arrived(stream, told[0], () => {
        for (const listener of listeners) listener.call(server, stream, ...told);
      }),
    );
  }

  private opened(session: Http2Session): void {
    const connection = {
      openStreams: 0,
      // Only at the end of a turn: within what a read has brought, over TLS, Node 20 corrupts its memory by this.
      leave: () => session.close(),
      wholeCalls: 0,
      allowMore: () => {
        if (!session.destroyed) session.settings({ maxConcurrentStreams: provenConnectionStreams });
      },
    };
    const destroy = this.ends.opened(session, {
      openStreams: () => connection.openStreams,
      stopReading: () => this.turns.stop(session),
    });
    this.turns.opened(session, destroy);
    this.connections.set(session, connection);
    this.loadShedder.opened(connection);
    session.once("close", () => this.loadShedder.closed(connection));
  }

  /** Whoever brings calls to their end may have more of them open at once. */
  private closed(connection: Connection, { isWhole }: ArrivingStream): void {
    connection.openStreams -= 1;
    if (!isWhole) return;
    connection.wholeCalls += 1;
    if (connection.wholeCalls === provingCalls) connection.allowMore();
  }

  private arrived(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, serve: () => void): void {
    // Until the library listens to it, and if it never does, nobody else would hear that it has failed.
    stream.on("error", nothing);
    this.turns.arrived(stream);
    const arriving = new ArrivingStream(stream, headers, serve, this.open, this.deadlines, this.frontEnd);
    // It was reset in the same breath.
    if (arriving.isGone) return;
    if (!this.open.add()) {
      // To the client that means that nothing was done.
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    const route = this.frontEnd.routeOf(headers[":path"] ?? "", headers);
    const connection = stream.session && this.connections.get(stream.session);
    if (connection) connection.openStreams += 1;
    const forget = route?.method.methodKind === "server_streaming" ? nothing : this.open.watch(stream);
    stream.once("close", () => {
      forget();
      arriving.closed();
      if (connection) this.closed(connection, arriving);
      process.nextTick(letGo, stream);
    });
    if (!route || !connection) {
      this.frontEnd.other(arriving);
      return;
    }
    arriving.awaitMessage();
    const deadlineMs = this.frontEnd.deadlineOf(headers);
    this.firstBytes.await(stream, () =>
      this.loadShedder.admitOrShed(connection, {
        rpc: route.method.name,
        kind: route.kind,
        deadlineMs,
        admit: (permit) => {
          // While it waited it may have been told that its message took too long.
          if (arriving.isGone || arriving.isAnswered) permit.end(false);
          else this.frontEnd.begin(arriving, route, permit, deadlineMs);
        },
        refuse: (failure) => arriving.refuse(failure),
      }),
    );
  }
}

const nothing = () => {};

/**
 * Of all that hangs on a stream that is closed. Node has the streams of a connection in a Map, and V8 keeps old copies of the
 * table behind it, with the streams that were open then, until the next full collection: each small one would copy the
 * calls of all of them.
 */
function letGo(stream: ServerHttp2Stream): void {
  // While somebody listens to that, and Node does, all others are taken away one by one, and told of.
  stream.removeAllListeners("removeListener");
  // The stream's own would look in a later turn whether somebody still reads.
  EventEmitter.prototype.removeAllListeners.call(stream);
  stream.on("error", nothing);
}
