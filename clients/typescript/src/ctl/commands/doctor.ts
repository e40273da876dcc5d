import { createRequire } from "node:module";
import type { Command } from "commander";
import { type CouponClient, createCouponClient, isRefusal, type NodeClientOptions } from "../../node.js";
import { exitCode, failureOf, Told, UsageError } from "../failures.js";
import type { Io } from "../io.js";
import { table } from "../render.js";
import { type Act, clientOptions, type GlobalOptions, ports, type Session } from "../session.js";
import { page, reach } from "./reach.js";
import { tryScopes } from "./scopes.js";

const version = (createRequire(import.meta.url)("@coupon-service/client/package.json") as { version: string }).version;
/** By so much two clocks may differ before it is worth a word; the service decides by its own. */
const maxAheadMs = 2_000;
const soonDays = 14;

interface Finding {
  readonly check: string;
  readonly state: "ok" | "look" | "wrong";
  readonly what: string;
  readonly advice?: string;
  /** Of what is wrong: how the program ends. */
  readonly code?: number;
}

interface DoctorOptions extends GlobalOptions {
  readonly grpc?: string;
  readonly http?: string;
}

export function addDoctorCommand(program: Command, act: Act, io: Io): void {
  program
    .command("doctor")
    .description("looks whether the service can be reached and used, and says what to do. It asks for each scope once")
    .option("--grpc <url>", "where GRPC_PORT is; default: the server, or its port 50051")
    .option("--http <url>", "where HTTP_PORT is; default: the server, or its port 8080")
    .action((_: object, command: Command) =>
      act(async (session) => {
        const options = command.optsWithGlobals<DoctorOptions>();
        const findings = await examine(session, options, clientOptions(options, io));
        if (session.output.json) for (const { code: _code, ...finding } of findings) session.output.value(finding);
        else session.output.text(table(["", "check", ""], findings.map(row)));
        for (const { check, advice } of findings) if (advice) session.output.note(`${check}: ${advice}`);
        const worst = findings.find(({ state }) => state === "wrong");
        if (worst) throw new Told(worst.code ?? exitCode.unavailable);
      }, command),
    );
}

const marks = { ok: "ok", look: "!", wrong: "X" } as const;
const row = ({ check, state, what }: Finding) => [marks[state], check, what];

async function examine(session: Session, options: DoctorOptions, client: NodeClientOptions): Promise<Finding[]> {
  const urls = addresses(session.baseUrl, options);
  const tls = client.tls ?? {};
  const found: Finding[] = [
    { check: "versions", state: "ok", what: `couponctl ${version}, Node ${process.versions.node}` },
  ];
  for (const [name, url] of Object.entries(urls)) found.push(...(await reached(name, url, tls, session.signal)));
  found.push(...(await plainPages(urls.http, tls, session.signal)));
  const way = (protocol: "grpc" | "connect", url: URL) =>
    calls(protocol, { ...client, baseUrl: url.href, protocol, retries: false }, session);
  const grpc = await way("grpc", urls.grpc);
  const connect = await way("connect", urls.http);
  found.push(grpc.finding, connect.finding);
  const works = [grpc, connect].find(({ finding }) => finding.state === "ok");
  if (works) found.push(...(await scopes(works.client, works.options, session)));
  for (const one of [grpc, connect]) one.client.close();
  return found;
}

/** Both ports, where only one is named: by their usual numbers, or the one for both, for it speaks all protocols. */
function addresses(baseUrl: string, { grpc, http }: DoctorOptions): { grpc: URL; http: URL } {
  const other = (port: number, usual: number) => {
    const url = new URL(baseUrl);
    if (url.port === String(usual)) url.port = String(port);
    return url;
  };
  const parsed = (text: string) => {
    if (!/^https?:\/\//.test(text) || !URL.canParse(text))
      throw new UsageError(`${text}: must begin with http:// or https://`);
    return new URL(text);
  };
  return {
    grpc: grpc ? parsed(grpc) : other(ports.grpc, ports.connect),
    http: http ? parsed(http) : other(ports.connect, ports.grpc),
  };
}

async function reached(name: string, url: URL, tls: object, signal: AbortSignal): Promise<Finding[]> {
  const check = `${name} port`;
  try {
    const found = await reach(url, tls, signal);
    const what = `${url.host} answers in ${found.ms.toFixed(0)} ms`;
    if (!found.tls) return [{ check, state: "ok", what: `${what}, without TLS` }];
    const { version: protocol, endsInDays, authorized } = found.tls;
    const certificate = `${what}, ${protocol}, certificate for ${endsInDays} more days`;
    if (authorized !== true) {
      const advice = "name the authority that has signed it by --ca-file, or the name that it is for in --server";
      return [{ check, state: "wrong", what: `${certificate}: ${authorized}`, advice }];
    }
    if (endsInDays >= soonDays) return [{ check, state: "ok", what: certificate }];
    return [{ check, state: "look", what: certificate, advice: "the service needs a new certificate soon" }];
  } catch (error) {
    if (signal.aborted) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    return [{ check, state: "wrong", what: `${url.host}: ${code ?? message}`, advice: adviceFor(code, url) }];
  }
}

function adviceFor(code: string | undefined, url: URL): string {
  if (code === "ECONNREFUSED") return `nothing listens at ${url.host}: is the service started, and is it this port?`;
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return `the name ${url.hostname} has no address: is it spelt right?`;
  if (url.protocol === "https:") return "it may speak no TLS: try http://";
  return "a firewall, or a wrong address";
}

/** Readiness, the clock, and the service's version where it tells one. */
async function plainPages(base: URL, tls: object, signal: AbortSignal): Promise<Finding[]> {
  const get = (path: string) =>
    page(new URL(path, base), tls, signal).catch((error: unknown) => {
      if (signal.aborted) throw error;
      return undefined;
    });
  const ready = await get("/readyz");
  if (!ready) return [];
  const found: Finding[] = [];
  const said = ready.text.trim().split("\n", 1)[0] ?? "";
  if (ready.status === 200) found.push({ check: "ready", state: "ok", what: said });
  else if (ready.status === 503) {
    found.push({ check: "ready", state: "wrong", what: said, advice: "look into the service's log and at its stores" });
  } else if (ready.status === 404) {
    found.push({ check: "ready", state: "look", what: "not told on this port", advice: "ADMIN_PORT may have it" });
  } else found.push({ check: "ready", state: "look", what: `HTTP ${ready.status}: ${said}` });
  if (ready.aheadMs !== undefined) {
    const off = Math.abs(ready.aheadMs) > maxAheadMs;
    const what = `${off ? `the service's is ${(ready.aheadMs / 1_000).toFixed(1)} s ahead of` : "agrees with"} this machine's`;
    const advice = "set this machine's clock: times that it writes are judged by the service's";
    found.push({ check: "clock", state: off ? "look" : "ok", what, ...(off && { advice }) });
  }
  const told = await get("/openapi.json");
  const info = told?.status === 200 ? versionIn(told.text) : undefined;
  if (info) found.push({ check: "service", state: "ok", what: `version ${info}` });
  return found;
}

function versionIn(text: string): string | undefined {
  try {
    return (JSON.parse(text) as { info?: { version?: string } }).info?.version;
  } catch {
    return undefined;
  }
}

async function calls(protocol: "grpc" | "connect", options: NodeClientOptions, session: Session) {
  const client = createCouponClient(options);
  const by = { client, options };
  const check = protocol === "grpc" ? "gRPC" : "Connect";
  const startedAt = performance.now();
  const error = await client.catalog.listCoupons({ pageSize: 1 }, session.call).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  const ms = `${(performance.now() - startedAt).toFixed(0)} ms`;
  if (session.signal.aborted) throw error;
  if (error === undefined) return { ...by, finding: { check, state: "ok", what: `a call takes ${ms}` } as const };
  if (isRefusal(error, "PERMISSION_DENIED")) {
    return { ...by, finding: { check, state: "ok", what: `a call is answered in ${ms}` } as const };
  }
  const failure = failureOf(error, session.signal);
  const what = (failure?.text ?? String(error)).split("\n", 1)[0] as string;
  const advice = isRefusal(error, "UNAUTHENTICATED")
    ? "the service asks who calls: put the key into a file for --key-file, or into COUPON_KEY"
    : what.endsWith("HTTP 426") // Upgrade Required: HTTP/1.1 is not spoken there.
      ? "this is the port for gRPC alone: name the other one by --http"
      : "see above, and the service's log";
  const code = failure?.code ?? exitCode.unavailable;
  return { ...by, finding: { check, state: "wrong", what, advice, code } as const };
}

async function scopes(client: CouponClient, options: NodeClientOptions, session: Session): Promise<Finding[]> {
  const { credentials } = options;
  const answers = await tryScopes(client, session.signal);
  const names = (wanted: unknown) => [...answers].filter(([, answer]) => answer === wanted).map(([name]) => name);
  const allowed = names("allowed");
  const denied = names("denied");
  const others = [...answers].filter(([, answer]) => typeof answer === "object").map(([name]) => name);
  const who = credentials && "apiKey" in credentials ? `key ${keyId(credentials.apiKey)}` : "no key";
  const found: Finding[] = [
    { check: "credentials", state: "ok", what: `${who} may: ${allowed.join(" ") || "nothing"}` },
  ];
  if (denied.length > 0) {
    const advice =
      denied.includes("admin") && (await asksNobody(options, session))
        ? "the service asks nobody who they are; keys and the audit are closed until it runs with AUTH=keys"
        : "whoever has the scope admin makes a key that allows more: couponctl keys create";
    found.push({ check: "scopes", state: "look", what: `not: ${denied.join(" ")}`, advice });
  }
  if (others.length > 0) found.push({ check: "scopes", state: "look", what: `no answer of: ${others.join(" ")}` });
  return found;
}

/** Whether it hears whoever brings nothing. */
async function asksNobody({ credentials: _, ...options }: NodeClientOptions, session: Session): Promise<boolean> {
  if (options.tls?.cert) return false;
  const client = createCouponClient(options);
  try {
    await client.catalog.listCoupons({ pageSize: 1 }, session.call);
    return true;
  } catch {
    return false;
  } finally {
    client.close();
  }
}

/** Its public part. */
function keyId(text: string): string {
  return /^ck_([a-z2-7]{12})_/.exec(text)?.[1] ?? "of another form";
}
