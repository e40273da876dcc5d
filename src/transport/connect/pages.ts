import type { NodeResponse } from "./node-request.js";

/** Paths that are not RPCs. Answers false when the path is not one of its own. */
export type PlainPages = (path: string, response: NodeResponse) => boolean;

/** On a port that has none. */
export const noPages: PlainPages = () => false;

/** Those of all, each asked in turn. */
export function allOf(...several: readonly PlainPages[]): PlainPages {
  return (path, response) => several.some((pages) => pages(path, response));
}

export interface MetricsPage {
  page(accept: string | undefined): Promise<{ readonly contentType: string; readonly text: string }>;
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
        metrics.page(response.req.headers.accept).then(
          ({ contentType, text }) => send(200, contentType, text),
          () => send(500, "text/plain", "metrics failed\n"),
        );
        return true;
      default:
        return false;
    }
  };
}
