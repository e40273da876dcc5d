import type { NodeResponse } from "./node-request.js";

/** Paths that are not RPCs. Answers false when the path is not one of its own. */
export type PlainPages = (path: string, response: NodeResponse) => boolean;

/** On a port that has none. */
export const noPages: PlainPages = () => false;

/** The first that knows a path answers it. */
export function firstOf(...all: readonly PlainPages[]): PlainPages {
  return (path, response) => all.some((one) => one(path, response));
}

export interface MetricsPage {
  readonly contentType: string;
  text(): Promise<string>;
}

/** `/healthz`: the process lives. `/readyz`: it is "ready" to answer calls, or says why not. `/metrics`: for Prometheus. */
export function pages(metrics: MetricsPage, readiness: () => string): PlainPages {
  return (path, response) => {
    const send = (status: number, type: string, body: string) => {
      response.writeHead(status, { "content-type": type });
      response.end(body);
    };
    switch (path) {
      case "/healthz":
        send(200, "text/plain", "ok\n");
        return true;
      case "/readyz":
        send(readiness() === "ready" ? 200 : 503, "text/plain", `${readiness()}\n`);
        return true;
      case "/metrics":
        metrics.text().then(
          (text) => send(200, metrics.contentType, text),
          () => send(500, "text/plain", "metrics failed\n"),
        );
        return true;
      default:
        return false;
    }
  };
}
