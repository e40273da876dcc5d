import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { headersTimeoutMs } from "./http-port.js";
import { answerPlain, pathOf } from "./node-request.js";
import type { PlainPages } from "./pages.js";

/** Probes and a scraper or two. */
const maxAdminConnections = 100;

/** Metrics and health on a port of their own, always without TLS: whoever asks for them is no caller. */
export class AdminServer {
  private readonly server: http.Server;

  constructor(pages: PlainPages) {
    this.server = http.createServer(
      { headersTimeout: headersTimeoutMs, requestTimeout: headersTimeoutMs },
      (request, response) => {
        if (!pages(pathOf(request.url ?? ""), response)) answerPlain(response, 404, "There is nothing here.\n");
      },
    );
    this.server.maxConnections = maxAdminConnections;
  }

  /** Answers the port that it listens on. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.server.once("error", reject);
      this.server.listen({ host, port }, () => resolve((this.server.address() as AddressInfo).port));
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }
}
