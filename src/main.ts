import type { EmbeddedServers } from "../embedded/embedded.js";
import type { ServerName } from "../embedded/protocol.js";
import { type Config, readConfig, secretNames, WrongSetting } from "./config.js";
import { createLogger, type Logger } from "./platform/logger.js";
import { packageVersion } from "./platform/package-root.js";
import { Secret } from "./platform/secrets/secret.js";

/** After calls had their time to end: what commits, jobs and closing may take. */
const closingMs = 20_000;
/** Of faults that nobody has caught: the first ends the process in order, this one at once. */
const maxFaults = 2;

/**
 * `main.js` serves; `main.js migrate` brings the database up to date, and ends; `main.js keys` makes and ends keys of callers. Each
 * loads its own code only when it runs: of a start, that is what takes longest.
 */
const commands = ["serve", "migrate", "keys"] as const;
const usage = `main.js [serve]     serves
main.js migrate     brings the database that DATABASE_URL names up to date, and ends
main.js keys ...    makes and ends keys of callers; keys --help says how
Settings are environment variables: docs/configuration.md has them all.
`;

async function main(): Promise<void> {
  let config: Config;
  const [name = "serve", ...args] = process.argv.slice(2);
  const command = commands.find((one) => one === name);
  if (command !== "keys" && [name, ...args].some((one) => one === "--help" || one === "-h")) {
    process.stdout.write(usage);
    return;
  }
  try {
    if (!command) throw new Error(`there is no command ${name}; there are: ${commands.join(", ")}`);
    if (command !== "keys" && args.length > 0) throw new Error(`${command} takes no arguments: ${args.join(" ")}`);
    config = readConfig(process.env);
    // So that no program that is started from here, and no report of a crash, has them.
    for (const name of secretNames) delete process.env[name];
    if (command === "migrate" && !config.DATABASE_URL) {
      throw new Error("DATABASE_URL: must name the database that is to be migrated");
    }
  } catch (error) {
    process.stderr.write(`coupon-service: ${(error as Error).message}\n`);
    process.exitCode = 2;
    return;
  }
  if (command === "keys") {
    await runKeys(config, args);
    return;
  }
  const logger = createLogger(config.LOG_LEVEL, { service: config.OTEL_SERVICE_NAME, version: packageVersion() });
  const { log, exit } = logger;
  if (command === "migrate") {
    await runMigrate(config, log);
    await exit();
  }
  const stop = stopRequested(config.EXIT_ON_STDIN_CLOSE);
  const stopping = new AbortController();
  void stop.then(() => stopping.abort());
  const fault = firstFault(log, exit);
  let embedded: EmbeddedServers | undefined;
  try {
    if (!config.DATABASE_URL) {
      const ifInUse = "Stop that one first, or set DATA_DIR to another folder.";
      embedded = await startOwnServers(config.DATA_DIR, ["postgres", "redis"], ifInUse, stopping.signal);
      config = {
        ...config,
        HOST: config.HOST ?? "127.0.0.1",
        DATABASE_URL: new Secret(embedded.databaseUrl as string),
        ...(embedded.redisUrl && { REDIS_URL: new Secret(embedded.redisUrl) }),
      };
    }
    const { startApp } = await import("./app.js");
    // Whoever waits for a database need not wait to be told to stop.
    const app = await Promise.race([
      startApp({ ...config, DATABASE_URL: config.DATABASE_URL as Secret }, logger),
      stop.then(() => null),
    ]);
    if (!app) return;
    const { grpcPort, httpPort, adminPort } = app;
    // With nothing to reload it ends the process, as ever.
    if (app.reload) process.on("SIGHUP", app.reload);
    process.stdout.write(`${JSON.stringify({ event: "serving", grpcPort, httpPort, adminPort, pid: process.pid })}\n`);

    if ((await Promise.race([stop, fault])) === "fault") process.exitCode = 1;
    log.info("stopping");
    const { DRAIN_DELAY_MS, DRAIN_MS } = config;
    setTimeout(
      () => {
        process.stderr.write("coupon-service: it did not end in time, so it is cut off\n");
        void exit(1);
      },
      DRAIN_DELAY_MS + DRAIN_MS + closingMs,
    ).unref();
    await app.close();
  } catch (error) {
    // Told to stop while its own servers were starting: there is nothing to end.
    if (error === stopping.signal.reason) return;
    log.fatal({ err: error }, "cannot go on");
    process.stderr.write(`coupon-service: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = error instanceof WrongSetting ? 2 : 1;
  } finally {
    await embedded?.stop();
    await exit();
  }
}

/** Loaded only here: a service that is given its stores has no use for it. */
async function startOwnServers(
  folder: string | undefined,
  servers: readonly ServerName[],
  ifInUse: string,
  signal?: AbortSignal,
): Promise<EmbeddedServers> {
  const { defaultDataDir, startEmbedded } = await import("../embedded/embedded.js");
  const dataDir = folder ?? defaultDataDir();
  process.stderr.write(
    `coupon-service: no DATABASE_URL, so servers of its own are started (${servers.join(", ")}); data in ${dataDir}\n`,
  );
  return await startEmbedded({ dataDir, servers, ifInUse, ...(signal && { signal }) });
}

async function runKeys(config: Config, args: readonly string[]): Promise<void> {
  let own: EmbeddedServers | undefined;
  try {
    const { keysCommand } = await import("./wiring/keys.js");
    // A key holds only where it is made, so that another folder is no way out.
    const ifInUse = "Stop that one first; or, where the service has a database elsewhere, name that by DATABASE_URL.";
    const databaseUrl = async () => {
      if (config.DATABASE_URL) return config.DATABASE_URL;
      own = await startOwnServers(config.DATA_DIR, ["postgres"], ifInUse);
      return new Secret(own.databaseUrl as string);
    };
    process.exitCode = await keysCommand(args, config, databaseUrl);
  } catch (error) {
    process.stderr.write(`coupon-service: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  } finally {
    await own?.stop();
  }
}

async function runMigrate(config: Config, log: Logger): Promise<void> {
  try {
    const { migrateOnly } = await import("./wiring/migrating.js");
    await migrateOnly({ ...config, DATABASE_URL: config.DATABASE_URL as Secret }, log);
  } catch (error) {
    log.fatal({ err: error }, "not migrated");
    process.stderr.write(`coupon-service: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}

/**
 * Resolves when something was thrown that nobody has caught. What state it has left is not known: so the process takes no
 * more calls, lets those under way end, and ends itself; at once when it happens again.
 */
function firstFault(log: Logger, exit: (code: number) => Promise<void>): Promise<"fault"> {
  return new Promise((resolve) => {
    let count = 0;
    // A rejection that nobody handles comes here, too.
    process.on("uncaughtException", (error, origin) => {
      count += 1;
      if (count > maxFaults) return;
      log.fatal({ err: error, origin }, "a fault that nobody has caught");
      process.stderr.write(`coupon-service: ${origin}: ${error instanceof Error ? error.message : String(error)}\n`);
      if (count === maxFaults) void exit(1);
      resolve("fault");
    });
  });
}

/**
 * Resolves on SIGTERM or SIGINT, or when whoever started this process has gone. SIGTERM may come again: whoever sends it to a whole group
 * sends it to `npm start` as well, which passes it on. A second Ctrl-C is somebody who does not want to wait.
 */
function stopRequested(exitOnStdinClose: boolean): Promise<void> {
  return new Promise((resolve) => {
    process.on("SIGTERM", () => resolve());
    process.once("SIGINT", () => resolve());
    if (exitOnStdinClose) process.stdin.resume().once("close", resolve).once("end", resolve).once("error", resolve);
  });
}

await main();
