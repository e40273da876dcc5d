import {
  constants,
  type Http2Server,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { OpenStreams } from "../open-streams.js";
import type { Route } from "../routes.js";
import type { Permit } from "./admission.js";
import type { Sheddable } from "./connection-shedder.js";
import type { LoadShedder } from "./load-shedder.js";
import { ReadTurns } from "./read-turns.js";
import { refuseStream } from "./refuse.js";

/** What Node tells the listeners of a server's streams. */
type Told = [headers: IncomingHttpHeaders, flags: number, rawHeaders: string[]];
type Listener = (stream: ServerHttp2Stream, ...told: Told) => void;

/** A stream that has arrived, before anything is made of it. */
export interface ArrivingStream {
  readonly stream: ServerHttp2Stream;
  /** They may be changed: the library sees what is left of them. */
  readonly headers: IncomingHttpHeaders;
  /** Hands it to the library that makes a call of it: sooner or later, or never. */
  serve(): void;
  /** It was answered before its message had arrived: what is still to come is not waited for. */
  abandon(): void;
  /** What is to be done when it is closed: one listener does it all, for each costs every call. */
  onClose?: () => void;
}

/** What a front end makes of its streams. */
export interface StreamFrontEnd {
  routeOf(path: string): Route | undefined;
  /** In ms since 1970; Infinity: the caller did not say. */
  deadlineOf(headers: IncomingHttpHeaders): number;
  /** A call that was let in. */
  begin(arriving: ArrivingStream, route: Route, permit: Permit, deadlineMs: number): void;
  /** Whatever is none of our calls. */
  other(arriving: ArrivingStream): void;
}

/** Stands before the library that serves an HTTP/2 port: it sees only those streams for which there is a permit. */
export class ArrivingStreams {
  private readonly turns = new ReadTurns();
  private readonly open = new OpenStreams();
  private readonly connections = new WeakMap<Http2Session, Sheddable>();

  constructor(
    private readonly loadShedder: LoadShedder,
    private readonly frontEnd: StreamFrontEnd,
  ) {}

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
    this.turns.opened(session);
    const connection = { leave: () => session.close() };
    this.connections.set(session, connection);
    this.loadShedder.opened(connection);
    session.once("close", () => this.loadShedder.closed(connection));
  }

  private arrived(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, serve: () => void): void {
    // Until the library listens to it, and if it never does, nobody else would hear that it has failed.
    stream.on("error", () => {});
    this.turns.arrived(stream);
    // It was reset in the same breath.
    if (isGone(stream)) return;
    if (!this.open.add()) {
      // To the client that means that nothing was done.
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    const path = headers[":path"] ?? "";
    const route = this.frontEnd.routeOf(path);
    const connection = stream.session && this.connections.get(stream.session);
    const arriving: ArrivingStream = { stream, headers, serve, abandon: () => this.open.answered(stream) };
    stream.once("close", () => {
      this.open.closed(stream);
      arriving.onClose?.();
    });
    if (!route || !connection) {
      this.frontEnd.other(arriving);
      return;
    }
    const deadlineMs = this.frontEnd.deadlineOf(headers);
    this.loadShedder.admitOrShed(connection, {
      rpc: route.method.name,
      kind: route.kind,
      deadlineMs: () => deadlineMs,
      admit: (permit) => {
        if (isGone(stream)) permit.end(false);
        else this.frontEnd.begin(arriving, route, permit, deadlineMs);
      },
      refuse: (failure) => {
        if (isGone(stream)) return;
        refuseStream(stream, headers, failure);
        arriving.abandon();
      },
    });
  }
}

/** Whether nobody is there any more to be answered. */
function isGone(stream: ServerHttp2Stream): boolean {
  return stream.closed || stream.destroyed;
}
