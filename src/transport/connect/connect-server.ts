import type * as http from "node:http";
import type * as http2 from "node:http2";
import { Code as ConnectCode, ConnectError, createConnectRouter } from "@connectrpc/connect";
import { compressionGzip } from "@connectrpc/connect-node";
import { ClientPace } from "../client-pace.js";
import type { ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import type { LargeMessages } from "../messages/large-messages.js";
import { ArrivingStreams } from "../overload/arriving-streams.js";
import type { LoadShedder } from "../overload/load-shedder.js";
import { refuseRequest } from "../overload/refuse.js";
import { isRest } from "../rest/rest-answer.js";
import { callRest, isTooLong, nothingThere, send } from "../rest/rest-call.js";
import { OtherMethods, RestRoutes } from "../rest/rest-routes.js";
import type { Route } from "../routes.js";
import type { Standard } from "../standard/standard-method.js";
import type { Tls } from "../tls/tls.js";
import type { Admitted, AdmittedRequest } from "./admitted.js";
import { callConnect, mount } from "./connect-call.js";
import type { Arriving, Mounted } from "./connect-message.js";
import { type Cors, crossOrigin, isPreflight } from "./cors.js";
import { type ForeignPage, ForeignPages } from "./foreign-pages.js";
import { HttpPort } from "./http-port.js";
import {
  ArrivingRequest,
  answerPlain,
  deadlineOf,
  isGone,
  type NodeRequest,
  type NodeResponse,
  pathOf,
} from "./node-request.js";
import type { PlainPages } from "./pages.js";
import { StandardHandlers } from "./standard-handlers.js";

const notFound =
  "There is nothing here: RPCs are POST /coupon.v1.CatalogService/CreateCoupon and the like; REST is GET /v1/coupons and the like.\n";

/** When the server stops, for clients to take the message of a stream that is on its way to them. */
const lastTakeMs = 2_000;

/** What serves a path: a method, and how it is called. */
interface Target {
  readonly route: Route;
  call(admitted: AdmittedRequest): Promise<void>;
}

// Node loads its fetch, 45 ms of work, when the first of these names is used: not while a call waits.
void globalThis.Headers;

/** The Connect, gRPC-Web, JSON and REST protocols over HTTP/1.1 and HTTP/2 (also gRPC over HTTP/2), all on one port. */
export class ConnectServer {
  private readonly port: HttpPort;
  private readonly targets = new Map<string, Target>();
  private readonly rest: RestRoutes;
  private readonly cors: Cors | undefined;
  private readonly foreignPages: ForeignPages;
  private readonly onForeignPage: (why: ForeignPage["why"]) => void;
  private readonly standard: StandardHandlers | undefined;
  private readonly pace = new ClientPace();
  /** Of the streams that were let in. */
  private readonly admitted = new WeakMap<http2.ServerHttp2Stream, Admitted>();

  constructor(
    routes: readonly Route[],
    private readonly largeMessages: LargeMessages,
    private readonly deadlines: ArrivalDeadlines,
    private readonly pages: PlainPages,
    private readonly loadShedder: LoadShedder,
    private readonly onError: (error: unknown) => void,
    {
      tls,
      cors,
      standard,
      isOfThisMachine = false,
      onForeignPage = () => {},
    }: {
      readonly tls?: Tls | undefined;
      readonly cors?: Cors | undefined;
      readonly standard?: Standard;
      /** Nobody is asked who they are, for all who come are at this machine. */
      readonly isOfThisMachine?: boolean;
      /** A request was refused because of the page that it came from. */
      readonly onForeignPage?: (why: ForeignPage["why"]) => void;
    } = {},
  ) {
    this.standard = standard && new StandardHandlers(standard);
    this.cors = cors;
    this.foreignPages = new ForeignPages(cors, isOfThisMachine);
    this.onForeignPage = onForeignPage;
    // Brotli is left out: it is decompressed before any limit of ours applies.
    for (const route of routes) {
      const readMaxBytes = route.maxMessageBytes;
      const router = createConnectRouter({ acceptCompression: [compressionGzip], readMaxBytes });
      mount(router, route, this.pace);
      for (const handler of router.handlers) {
        const mounted: Mounted = { ...route, handler };
        this.targets.set(handler.requestPath, { route, call: (admitted) => callConnect(mounted, admitted) });
      }
    }
    this.rest = new RestRoutes(routes);

    this.port = new HttpPort((request, response) => this.handle(request, response), deadlines, tls);
    const streams = new ArrivingStreams(loadShedder, deadlines, {
      // A preflight and a page of others are answered without a permit.
      routeOf: (path, headers) =>
        this.isPreflight(headers) || this.refusalOf(headers)
          ? undefined
          : this.targetAt(headers[":method"] ?? "", path)?.route,
      deadlineOf,
      headersFor: (headers) => cors?.headersFor(headers),
      begin: (arriving, _route, permit, deadlineMs) => {
        const connection = arriving.stream.session;
        this.admitted.set(arriving.stream, { permit, deadlineMs, isHandedOn: false, arriving, connection });
        arriving.serve();
      },
      other: (arriving) => {
        const refusal = this.refusalOf(arriving.headers);
        if (!refusal) arriving.serve();
        else {
          onForeignPage(refusal.why);
          arriving.refuse(refusal.failure);
        }
      },
    });
    streams.watch(this.port.http2);
  }

  listen(host: string, port: number): Promise<number> {
    return this.port.listen(host, port);
  }

  /** Takes no new connections, ends idle ones with GOAWAY, and cuts off what is left after the given time. */
  close(drainMs: number): Promise<void> {
    // Who has not taken it then is cut off; all others read the end of their stream behind it.
    setTimeout(() => this.pace.close(), lastTakeMs).unref();
    return this.port.close(drainMs);
  }

  private isPreflight(headers: http.IncomingHttpHeaders): boolean {
    return this.cors !== undefined && isPreflight(headers[":method"] as string | undefined, headers);
  }

  private refusalOf(headers: http.IncomingHttpHeaders): ForeignPage | undefined {
    return this.foreignPages.refusalOf(headers[":method"] as string | undefined, headers);
  }

  private targetAt(method: string, url: string): Target | undefined {
    if (!isRest(url)) return this.targets.get(pathOf(url));
    const match = isTooLong(url) ? undefined : this.rest.match(method, url);
    if (!match || match instanceof OtherMethods) return undefined;
    return { route: match.route, call: (admitted) => callRest(match, admitted) };
  }

  private answerNothing(request: NodeRequest, response: NodeResponse): void {
    const url = request.url ?? "";
    if (isRest(url)) {
      const found = this.rest.match(request.method ?? "", url);
      send(response, nothingThere(url, found instanceof OtherMethods ? found : undefined), request.method);
    } else if (!this.pages(pathOf(url), response)) answerPlain(response, 404, notFound);
  }

  /** Every request is answered, or its connection is cut. */
  private handle(request: NodeRequest, response: NodeResponse): void {
    const fail = (error: unknown) => {
      // Nobody is there to be answered, which is all that the error says.
      if (isGone(request, response)) return;
      if (ConnectError.from(error).code !== ConnectCode.Aborted) this.onError(error);
      if (response.headersSent) response.destroy();
      else answerPlain(response, 500, "the answer could not be made\n");
    };
    try {
      if (this.cors && crossOrigin(this.cors, request, response)) return;
      // Over HTTP/2 that is done before there is a request.
      const refusal = "stream" in request ? undefined : this.foreignPages.refusalOf(request.method, request.headers);
      if (refusal) {
        this.onForeignPage(refusal.why);
        refuseRequest(request as http.IncomingMessage, response as http.ServerResponse, refusal.failure);
        return;
      }
      const target = this.targetAt(request.method ?? "", request.url ?? "");
      const admitted = "stream" in request ? this.admitted.get(request.stream) : undefined;
      if (target && admitted) this.begin(target, request, response, admitted, fail);
      else if (target && !("stream" in request))
        this.admitOrShed(target, request, response as http.ServerResponse, fail);
      else {
        const served = this.standard?.serve(pathOf(request.url ?? ""), request, response);
        if (served) served.catch(fail);
        else this.answerNothing(request, response);
      }
    } catch (error) {
      fail(error);
    }
  }

  /** Asks for a permit before anything is made of a call; over HTTP/2 that is done before there is a request. */
  private admitOrShed(
    target: Target,
    request: http.IncomingMessage,
    response: http.ServerResponse,
    fail: (error: unknown) => void,
  ): void {
    const deadlineMs = deadlineOf(request.headers);
    this.loadShedder.admitOrShed(null, {
      rpc: target.route.method.name,
      kind: target.route.kind,
      deadlineMs,
      admit: (permit) => {
        const arriving = new ArrivingRequest(response, this.deadlines);
        if (response.destroyed) permit.end(false);
        else
          this.begin(
            target,
            request,
            response,
            { permit, deadlineMs, isHandedOn: false, arriving, connection: request.socket },
            fail,
          );
      },
      refuse: (failure) => refuseRequest(request, response, failure),
    });
  }

  private begin(
    target: Target,
    request: NodeRequest,
    response: NodeResponse,
    admitted: Admitted,
    fail: (error: unknown) => void,
  ): void {
    target
      .call({ request, response, admitted, place: this.arrive(request, response, admitted) })
      .catch(fail)
      .finally(() => {
        if (!admitted.isHandedOn) admitted.permit.end(false);
      });
  }

  /** Counts the memory of a large message until the call is over, and looks after the time in which it must arrive. */
  private arrive(request: NodeRequest, response: NodeResponse, { arriving }: Admitted): Arriving {
    const large = this.largeMessages.open(("stream" in request && request.stream.session) || request.socket);
    response.once("close", () => large.close());
    const late = new Promise<"late">((resolve) => {
      arriving.onLate = () => resolve("late");
    });
    return { large, late, abandon: () => arriving.abandon() };
  }
}
