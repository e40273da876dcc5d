import { join } from "node:path";
import { type Config, hostOf } from "../../config.js";
import type { Logger } from "../../platform/logger.js";
import type { Metrics } from "../../platform/metrics.js";
import { packageRoot } from "../../platform/package-root.js";
import { AdminServer } from "../../transport/connect/admin-server.js";
import { ConnectServer } from "../../transport/connect/connect-server.js";
import { consolePages } from "../../transport/connect/console-pages.js";
import { Cors } from "../../transport/connect/cors.js";
import { allOf, noPages, pages } from "../../transport/connect/pages.js";
import { GrpcServer } from "../../transport/grpc/grpc-server.js";
import { maxConnections } from "../../transport/http2-limits.js";
import type { ArrivalDeadlines } from "../../transport/messages/arrival-deadlines.js";
import { LargeMessages } from "../../transport/messages/large-messages.js";
import { LoadShedder } from "../../transport/overload/load-shedder.js";
import type { Route } from "../../transport/routes.js";
import type { Tls } from "../../transport/tls/tls.js";
import { openContract } from "./contract.js";
import { docsPages } from "./docs.js";

interface FrontEndParts {
  readonly config: Config;
  readonly routes: readonly Route[];
  readonly arrivals: ArrivalDeadlines;
  readonly tls: Tls | undefined;
  readonly isServing: () => boolean;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** The ports, and what is served on each. */
export async function openFrontEnds({ config, routes, arrivals, tls, isServing, metrics, log }: FrontEndParts) {
  let isStopping = false;
  const largeMessages = new LargeMessages();
  const loadShedder = new LoadShedder({ maxAtWork: config.MAX_IN_FLIGHT, maxConnections, isServing, metrics, log });
  const onLost = (error: unknown) => log.warn({ err: error }, "answer could not be sent");
  const { health, standard, contract } = openContract(routes, config.REFLECTION === "on", onLost);
  const grpcServer = new GrpcServer(routes, largeMessages, arrivals, loadShedder, onLost, { tls, standard });
  const readiness = () => (isStopping ? "stopping" : isServing() ? "ready" : "postgres is away");
  const statusPages = allOf(contract, pages(metrics, readiness));
  const hasAdmin = config.ADMIN_PORT !== undefined;
  // It is where the API is, which it calls, whatever port the other pages have.
  const consoleFiles = config.CONSOLE === "on" ? consolePages(join(packageRoot(), "dist/console")) : noPages;
  const httpPages = allOf(hasAdmin ? contract : allOf(statusPages, await docsPages(config)), consoleFiles);
  const connectServer = new ConnectServer(
    ...([routes, largeMessages, arrivals, httpPages, loadShedder, onLost] as const),
    {
      ...{ tls, standard, cors: config.CORS_ORIGINS && new Cors(config.CORS_ORIGINS) },
      isOfThisMachine: config.AUTH === undefined,
      onForeignPage: (why) => metrics.foreignPage(why),
    },
  );
  let admin: AdminServer | undefined;

  return {
    setServing: (isUp: boolean) => health.setServing(isUp && !isStopping),

    async listen() {
      const host = hostOf(config);
      const grpcPort = await named("GRPC_PORT", grpcServer.listen(host, config.GRPC_PORT));
      const httpPort = await named("HTTP_PORT", connectServer.listen(host, config.HTTP_PORT));
      if (!hasAdmin) return { grpcPort, httpPort };
      admin = new AdminServer(
        allOf(statusPages, await docsPages(config, { port: httpPort, isSecure: tls !== undefined })),
      );
      const adminPort = admin.listen(config.ADMIN_HOST ?? host, config.ADMIN_PORT ?? 0);
      return { grpcPort, httpPort, adminPort: await named("ADMIN_PORT", adminPort) };
    },

    /** Says to whoever asks that this replica is going. Calls are served as before. */
    sayGoing(): void {
      isStopping = true;
      health.setServing(false);
    },

    /** Takes no more calls, and ends when those under way have, or are cut off. */
    async drain(): Promise<void> {
      standard.calls.close();
      await Promise.all([grpcServer.close(config.DRAIN_MS), connectServer.close(config.DRAIN_MS)]);
      loadShedder.close();
    },

    /** Of the administrators' port, where it is seen until the end how the rest goes. */
    close: async () => admin?.close(),
  };
}

/** Says which setting it was for that a port could not be had. */
async function named(setting: string, listening: Promise<number>): Promise<number> {
  try {
    return await listening;
  } catch (error) {
    const { message } = error as Error;
    // grpc-js puts what the system has said into a list of one.
    const why = /\blisten (E[^\]]*)/.exec(message)?.[1] ?? message;
    throw new Error(`cannot listen for ${setting}: ${why}`, { cause: error });
  }
}
