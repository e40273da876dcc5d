import { readFileSync } from "node:fs";
import { type Command, Option } from "commander";
import { type CouponClient, createCouponClient, type NodeClientOptions } from "../node.js";
import { UsageError } from "./failures.js";
import type { Io } from "./io.js";
import { durationOf } from "./parse.js";
import { Output } from "./render.js";

export interface GlobalOptions {
  readonly server?: string;
  readonly keyFile?: string;
  readonly protocol: "grpc" | "connect" | "grpc-web";
  readonly timeout: number;
  readonly caFile?: string;
  readonly certFile?: string;
  readonly certKeyFile?: string;
  readonly json?: boolean;
  readonly color: boolean;
}

export const ports = { grpc: 50_051, connect: 8_080, "grpc-web": 8_080 } as const;

export function addGlobalOptions(program: Command): void {
  program
    .option("-s, --server <url>", "where the service is; else COUPON_URL, else localhost")
    .option(
      "--key-file <file>",
      "with the API key; else COUPON_KEY has it. It is no argument, for those are seen by all",
    )
    .addOption(
      new Option("--protocol <name>", "gRPC goes to either port, the others to HTTP_PORT")
        .choices(["grpc", "connect", "grpc-web"])
        .default("grpc"),
    )
    .addOption(
      new Option("--timeout <time>", "of a call with its retries").argParser(durationOf).default(10_000, "10s"),
    )
    .option("--ca-file <file>", "the authorities whose certificates are believed, in PEM")
    .option("--cert-file <file>", "a client certificate, in PEM")
    .option("--cert-key-file <file>", "its key")
    .option("--json", "a JSON document, or a line of JSON for each of many")
    .option("--no-color", "as NO_COLOR does");
}

/** What a command works with. */
export interface Session {
  readonly options: GlobalOptions;
  readonly client: CouponClient;
  readonly baseUrl: string;
  readonly output: Output;
  /** For each call: Ctrl-C ends it. */
  readonly call: { readonly signal: AbortSignal };
  readonly signal: AbortSignal;
}

function fileOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new UsageError(`${path}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
  }
}

export function clientOptions(options: GlobalOptions, io: Io): NodeClientOptions {
  const { keyFile, protocol, timeout, caFile, certFile, certKeyFile } = options;
  const apiKey = (keyFile === undefined ? io.env.COUPON_KEY : fileOf(keyFile))?.trim();
  return {
    baseUrl: options.server ?? io.env.COUPON_URL ?? `http://localhost:${ports[protocol]}`,
    protocol,
    timeoutMs: timeout,
    ...(apiKey && { credentials: { apiKey } }),
    tls: {
      ...(caFile && { ca: fileOf(caFile) }),
      ...(certFile && { cert: fileOf(certFile) }),
      ...(certKeyFile && { key: fileOf(certKeyFile) }),
    },
  };
}

/** What each command does with a session, which is closed behind it. */
export type Act = (work: (session: Session) => Promise<void>, command: Command) => Promise<void>;

export function acting(io: Io): Act {
  return async (work, command) => {
    const options = command.optsWithGlobals<GlobalOptions>();
    const described = clientOptions(options, io);
    const colour = options.color && io.terminal && !io.env.NO_COLOR;
    const output = new Output(io, options.json === true, colour);
    let client: CouponClient;
    try {
      client = createCouponClient(described);
    } catch (error) {
      throw new UsageError((error as Error).message.replace("baseUrl", "the server's address (--server, COUPON_URL)"));
    }
    const { signal } = io;
    try {
      await work({ options, client, baseUrl: described.baseUrl, output, signal, call: { signal } });
    } finally {
      client.close();
    }
  };
}
