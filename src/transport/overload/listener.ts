import * as net from "node:net";
import { cutOffAfterGoodbye } from "./last-goodbye.js";

/** Before listening is tried again, should the port be taken at this moment. */
const againMs = 50;

/**
 * A listening server that takes connections only while it may have more. Node takes one new connection in a turn of the event
 * loop, and under overload a turn is long: clients would hang in the system's queue for seconds. So a full server does not
 * listen at all, and the system refuses them at once and for nothing.
 */
export class Listener {
  private count = 0;
  private most = Number.POSITIVE_INFINITY;
  private isShut = false;
  private isGone = false;
  private hasFailed = false;
  private timer: NodeJS.Timeout | undefined;
  /** Takes back what is listened to while it begins to listen: when it is shut before that, neither comes. */
  private forget = () => {};
  private readonly address: net.ListenOptions;
  /** Resolves when it listens as it should. */
  readonly ready: Promise<void>;

  /** `server` listens on a port. */
  constructor(
    private readonly server: net.Server,
    backlog: number,
    /** Told when it cannot listen again; not a second time before it could. */
    private readonly onFailure: (error: Error) => void,
  ) {
    const { address: host, port } = server.address() as net.AddressInfo;
    this.address = { host, port, backlog };
    server.on("connection", (socket: net.Socket) => {
      this.count += 1;
      cutOffAfterGoodbye(socket);
      socket.once("close", () => {
        this.count -= 1;
        this.check();
      });
      this.check();
    });
    // What Node has made it listen with is too short for all that were shed to come back at once.
    this.shut();
    this.ready = new Promise((resolve) => server.once("listening", resolve));
    this.open();
  }

  /** From now on so many connections are taken, those that are open among them. */
  limit(most: number): void {
    this.most = most;
    this.server.maxConnections = most;
    this.check();
  }

  /** It will not listen again. */
  leave(): void {
    this.isGone = true;
    clearTimeout(this.timer);
  }

  private check(): void {
    if (this.isGone || this.timer) return;
    if (this.count >= this.most) this.shut();
    else this.open();
  }

  private shut(): void {
    if (this.isShut) return;
    this.isShut = true;
    this.forget();
    // Not http2's own: that ends the connections, too.
    net.Server.prototype.close.call(this.server);
  }

  private open(): void {
    if (!this.isShut) return;
    this.isShut = false;
    const onListening = () => {
      this.hasFailed = false;
      this.forget();
    };
    const onError = (error: Error) => {
      this.forget();
      if (!this.hasFailed) this.onFailure(error);
      this.hasFailed = true;
      this.isShut = true;
      this.timer = setTimeout(() => {
        this.timer = undefined;
        this.check();
      }, againMs);
    };
    this.forget = () => {
      this.server.off("error", onError);
      this.server.off("listening", onListening);
    };
    this.server.once("error", onError);
    this.server.once("listening", onListening);
    this.server.listen(this.address);
  }
}
