/**
 * Runs replicas of the compiled service for tests, several in one process: what a process costs to start, and that is most of what a
 * replica costs, is then paid once. Messages from the tests are { id, start: settings } and { id, stop: true }; each gets one answer,
 * { id, ports }, { id, stopped: true } or { id, error }. What the replicas log has their number, and goes to standard output.
 */
import { startApp } from "../../dist/src/app.js";
import { readConfig } from "../../dist/src/config.js";
import { createLogger } from "../../dist/src/platform/logger.js";
import { packageVersion } from "../../dist/src/platform/package-root.js";

const running = new Map();
// Each logger has one at the process.
process.setMaxListeners(0);
// A host ends with the tests, however they end. Nothing is left to be done then, and what a logger would do at an exit may fail: nobody reads any more.
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => {});

const acts = {
  async start(id, settings) {
    const config = readConfig(settings);
    const base = { service: config.OTEL_SERVICE_NAME, version: packageVersion(), replica: String(id) };
    const logger = createLogger(config.LOG_LEVEL, base);
    const app = await startApp(config, logger);
    running.set(id, { app, log: logger.log });
    const { grpcPort, httpPort, adminPort } = app;
    return { ports: { grpcPort, httpPort, adminPort } };
  },
  async stop(id) {
    const { app, log } = running.get(id);
    running.delete(id);
    await app.close();
    // The tests read to the end, so it does not hang.
    await new Promise((resolve) => log.flush(resolve));
    return { stopped: true };
  },
};

process.on("message", async ({ id, ...message }) => {
  const [[act, detail]] = Object.entries(message);
  const answer = await acts[act](id, detail).catch((error) => ({ error: error.message }));
  process.send({ id, ...answer });
});
