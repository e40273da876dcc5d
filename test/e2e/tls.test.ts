import { X509Certificate } from "node:crypto";
import * as http2 from "node:http2";
import { createRequire } from "node:module";
import * as net from "node:net";
import { dirname, join } from "node:path";
import * as tls from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { EventService } from "../../gen/coupon/v1/event_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import type { Certified } from "../support/certificates.js";
import type { Replica } from "../support/replica.js";
import { backing, startProcesses, startReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { answerOf, callNative, pathOf } from "./front-ends.js";
import {
  type Ask,
  callers,
  forgeries,
  names,
  newServer,
  nobodies,
  optionsOf,
  overHttp1,
  overHttp2,
  secureClient,
  serverCa,
  tlsFiles,
} from "./tls-world.js";

const { listCoupons } = CatalogService.method;
const { issueCoupon } = IssuanceService.method;
const list = { path: pathOf(listCoupons), body: "{}" };
const origin = "https://shop.example";

const files = tlsFiles(afterAll);
const { stores } = await backing(afterAll);
/** Where every client must have a certificate, and where it may prove itself in another way. */
const [[strict], [open]] = await Promise.all([
  startProcesses(afterAll, stores, {
    ...{ ...files.paths, AUTH: "certificates", ADMIN_PORT: "0", REFLECTION: "off", LOG_LEVEL: "info" },
  }),
  startReplicas(afterAll, stores, {
    ...{ ...files.paths, AUTH: "keys,certificates", ADMIN_PORT: "0", TLS_MIN_VERSION: "1.3", CORS_ORIGINS: origin },
  }),
]);

async function native(port: number, as?: Certified, method: typeof listCoupons | typeof issueCoupon = listCoupons) {
  const client = secureClient(port, as);
  onTestFinished(() => client.close());
  return (await callNative(client, method, new Uint8Array())).code;
}

const byHttp = { "HTTP/1.1": overHttp1, "HTTP/2": overHttp2 };
const protocols = Object.entries(byHttp);

async function metric(replica: Replica, name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${replica.adminPort}/metrics`)).text();
  const line = text.split("\n").find((one) => one.startsWith(name));
  return Number(line?.split(" ").at(-1) ?? 0);
}

describe("a caller with a certificate", () => {
  test.for(protocols)("is served by REST's paths over %s", async ([, over]) => {
    const asked = { method: "GET", path: "/v1/coupons", headers: {}, as: callers.checkout };
    const { status, text } = await over(strict.httpPort, asked);
    expect([status, JSON.parse(text)]).toEqual([200, expect.anything()]);
    await expect(over(strict.httpPort, { ...asked, as: undefined })).rejects.toThrow();
    expect((await over(open.httpPort, { ...asked, as: undefined })).status).toBe(401);
  });

  test("is known on both ports, by every protocol, and is in the log by its name", async () => {
    expect(await native(strict.grpcPort, callers.checkout)).toBe("OK");
    expect(await native(strict.httpPort, callers.checkout)).toBe("OK");
    for (const [, over] of protocols) {
      expect((await over(strict.httpPort, { ...list, as: callers.checkout })).status).toBe(200);
    }
    await until("the log has it", () =>
      strict.log().includes('"principal":"certificate:spiffe://example.org/checkout"'),
    );
  });

  test("may do what the file says", async () => {
    expect(await native(strict.grpcPort, callers.reports)).toBe("OK");
    expect(await native(strict.grpcPort, callers.reports, issueCoupon)).toBe("PERMISSION_DENIED");
    expect(
      (await overHttp1(strict.httpPort, { path: pathOf(issueCoupon), body: "{}", as: callers.reports })).status,
    ).toBe(403);
    // It has a host name of somebody else's beside its SPIFFE id, which alone counts.
    expect(await native(strict.grpcPort, callers.checkout, issueCoupon)).toBe("INVALID_ARGUMENT");
  });

  test("with TLS 1.2, unless that is too old", async () => {
    const ask = { ...list, as: callers.checkout, maxVersion: "TLSv1.2" as const };
    expect((await overHttp1(strict.httpPort, ask)).status).toBe(200);
    await expect(overHttp1(open.httpPort, ask)).rejects.toThrow();
    expect((await overHttp1(open.httpPort, { ...list, as: callers.checkout })).status).toBe(200);
  });
});

describe.for(nobodies)("a certificate %s", ([, as]) => {
  test("is nobody's", async () => {
    expect(await native(strict.grpcPort, as)).toBe("UNAUTHENTICATED");
    for (const [, over] of protocols) expect((await over(strict.httpPort, { ...list, as })).status).toBe(401);
    expect(await native(open.grpcPort, as)).toBe("UNAUTHENTICATED");
  });
});

describe.for(forgeries)("a client certificate %s", ([what, as]) => {
  test("does not come as far as a call where certificates are required", async () => {
    const before = await metric(strict, 'coupon_tls_handshake_failures_total{why="CERTIFICATE"}');
    for (const [, over] of protocols) await expect(over(strict.httpPort, { ...list, as })).rejects.toThrow();
    expect(await native(strict.grpcPort, as)).toBe("UNAVAILABLE");
    expect(await metric(strict, 'coupon_tls_handshake_failures_total{why="CERTIFICATE"}')).toBeGreaterThanOrEqual(
      before + 3,
    );
  });

  test("is nobody's where there are other ways, and does others no harm", async () => {
    const other = http2.connect(`https://127.0.0.1:${open.httpPort}`, optionsOf({ as: callers.checkout }));
    onTestFinished(() => other.destroy());
    await new Promise((resolve) => other.once("connect", resolve));
    // A signature that is wrong is no mistake: it ends the connection here, too.
    const isForged = what.startsWith("of another");
    expect(await native(open.grpcPort, as)).toBe(isForged ? "UNAVAILABLE" : "UNAUTHENTICATED");
    for (const [, over] of protocols) {
      const status = over(open.httpPort, { ...list, as }).then((heard) => heard.status);
      await (isForged ? expect(status).rejects.toThrow() : expect(status).resolves.toBe(401));
    }
    await new Promise<void>((resolve, reject) => other.ping((error) => (error ? reject(error) : resolve())));
  });
});

test("what is wrong with a caller is counted, and the caller hears the same of all", async () => {
  const failures = (why: string) => metric(strict, `coupon_auth_failures_total{way="certificates",why="${why}"}`);
  for (const why of ["unknown", "no_name", "several_names"]) expect(await failures(why)).toBeGreaterThan(0);
  const heard = await Promise.all(nobodies.map(([, as]) => overHttp1(strict.httpPort, { ...list, as })));
  expect(new Set(heard.map(({ text }) => text)).size).toBe(1);
});

describe("who is at the wrong door is told where to go", () => {
  test.for([["grpcPort"], ["httpPort"]] as const)("without TLS, %s", async ([port]) => {
    const response = await fetch(`http://127.0.0.1:${strict[port]}${list.path}`, { method: "POST", body: "{}" });
    expect([response.status, await response.text()]).toEqual([400, expect.stringContaining("https://")]);
    const session = http2.connect(`http://127.0.0.1:${strict[port]}`);
    session.on("error", () => {});
    const [code, text] = await new Promise<[number, Buffer?]>((resolve) =>
      session.once("goaway", (told, _last, why) => resolve([told, why])),
    );
    expect([code, String(text)]).toEqual([http2.constants.NGHTTP2_INADEQUATE_SECURITY, expect.stringContaining("TLS")]);
    session.destroy();
  });

  test("with HTTP/1.1 on the port of native gRPC; who goes without waiting for that does no harm", async () => {
    const socket = net.connect(strict.grpcPort, "127.0.0.1");
    const rude = tls.connect({ socket, ...optionsOf({ as: callers.checkout }) });
    rude.on("error", () => {});
    await new Promise<void>((resolve) => rude.once("secureConnect", resolve));
    socket.resetAndDestroy();
    const { status, text } = await overHttp1(strict.grpcPort, { ...list, as: callers.checkout });
    expect([status, text]).toEqual([426, expect.stringContaining("HTTP_PORT")]);
  });
});

describe("a port for metrics and health", () => {
  test("has them without TLS and certificates, and the port for calls has none", async () => {
    const statuses = await Promise.all(
      ["/healthz", "/readyz", "/metrics", list.path].map(
        async (path) => (await fetch(`http://127.0.0.1:${strict.adminPort}${path}`)).status,
      ),
    );
    expect(statuses).toEqual([200, 200, 200, 404]);
    for (const path of ["/healthz", "/metrics"]) {
      expect((await overHttp1(strict.httpPort, { method: "GET", path, as: callers.checkout })).status).toBe(404);
    }
  });
});

test("reflection that is off is not there", async () => {
  const packaged = dirname(createRequire(import.meta.url).resolve("@grpc/reflection"));
  const service = "grpc.reflection.v1.ServerReflection";
  const definition = loadSync(join(packaged, "../proto/grpc/reflection/v1/reflection.proto"))[service];
  const Client = grpc.makeGenericClientConstructor(definition as grpc.ServiceDefinition, service);
  const [ca, own] = [serverCa.certificate, callers.checkout];
  const credentials = grpc.credentials.createSsl(Buffer.from(ca), Buffer.from(own.key), Buffer.from(own.certificate));
  const client = new Client(`127.0.0.1:${strict.grpcPort}`, credentials, {
    "grpc.ssl_target_name_override": "localhost",
  });
  onTestFinished(() => client.close());
  const stream = (client.serverReflectionInfo as () => grpc.ClientDuplexStream<object, object>).call(client);
  const code = await new Promise((resolve) => stream.on("error", (error: grpc.ServiceError) => resolve(error.code)));
  expect(code).toBe(grpc.status.UNIMPLEMENTED);
});

describe.for(protocols)("a page of another origin, over %s", ([, over]) => {
  const preflight = (from: string, path = list.path): Ask => ({
    method: "OPTIONS",
    path,
    headers: {
      origin: from,
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization",
    },
  });

  test("may ask without credentials whether it may call", async () => {
    const { status, headers } = await over(open.httpPort, preflight(origin));
    expect(status).toBe(204);
    expect(headers["access-control-allow-origin"]).toBe(origin);
    expect(headers["access-control-allow-methods"]).toBe("POST, GET, PUT, PATCH, DELETE");
    for (const name of ["Authorization", "Content-Type", "Connect-Protocol-Version", "X-Grpc-Web", "X-Request-Id"]) {
      expect(headers["access-control-allow-headers"]).toContain(name);
    }
  });

  test("that is none of those that are named may not", async () => {
    const { status, headers } = await over(open.httpPort, preflight("https://shop.example.evil"));
    expect([status, headers["access-control-allow-origin"]]).toEqual([403, undefined]);
  });

  test("can read answers, also of calls that are refused", async () => {
    for (const as of [callers.checkout, undefined]) {
      const headers = { origin, "content-type": "application/json" };
      const heard = await over(open.httpPort, { ...list, headers, as });
      expect(heard.headers).toMatchObject({ "access-control-allow-origin": origin, vary: "Origin" });
      expect(heard.headers["access-control-expose-headers"]).toContain("Grpc-Status");
    }
  });

  test("that is none of those that are named cannot call, whatever certificate the browser shows", async () => {
    for (const port of [open.httpPort, strict.httpPort]) {
      const headers = { origin: "https://other.example", "content-type": "application/json" };
      const heard = await over(port, { ...list, headers, as: callers.checkout });
      expect([heard.status, heard.headers["access-control-allow-origin"]]).toEqual([403, undefined]);
    }
  });

  test("is not asked about where nobody is named", async () => {
    const { status, headers } = await over(strict.httpPort, { ...preflight(origin), as: callers.checkout });
    expect([status, headers["access-control-allow-origin"]]).toEqual([405, undefined]);
  });
});

describe("connections that never come as far as a call", () => {
  test("do not keep others waiting", async () => {
    // The head of a record that is much longer, and nothing more.
    const begun = Buffer.from([0x16, 3, 1, 0x10, 0, 1]);
    const sockets = Array.from({ length: 100 }, (_, at) => {
      const socket = net.connect(at % 2 ? strict.grpcPort : strict.httpPort, "127.0.0.1");
      socket.on("error", () => {});
      if (at % 4 < 2) socket.write(begun);
      return socket;
    });
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
    });
    expect(await native(strict.grpcPort, callers.checkout)).toBe("OK");
    expect((await overHttp1(strict.httpPort, { ...list, as: callers.checkout })).status).toBe(200);
  });
});

describe("files that are exchanged", () => {
  const runs = (job: string, outcome: string) =>
    metric(strict, `coupon_job_runs_total{job="${job}",outcome="${outcome}"}`);
  const serialOf = (certified: Certified) => new X509Certificate(certified.certificate).serialNumber;
  const served = async () => (await overHttp1(strict.httpPort, { ...list, as: callers.checkout })).serial;

  test("are used by new connections, no call fails of it, and calls on open connections go on", async () => {
    const next = newServer();
    const long = secureClient(strict.grpcPort, callers.checkout);
    onTestFinished(() => long.close());
    let isOver = false;
    const codes = new Set<string>();
    const load = Array.from({ length: 4 }, async () => {
      while (!isOver) {
        codes.add((await callNative(long, listCoupons, new Uint8Array())).code);
        codes.add((await overHttp2(strict.httpPort, { ...list, as: callers.checkout })).status === 200 ? "OK" : "HTTP");
      }
    });
    files.serve(next);
    strict.process.kill("SIGHUP");
    await until("the new one is shown", async () => (await served()) === serialOf(next));
    isOver = true;
    await Promise.all(load);
    expect([...codes]).toEqual(["OK"]);
    const endsAt = Date.parse(new X509Certificate(next.certificate).validTo) / 1_000;
    expect(await metric(strict, 'coupon_certificate_not_after_timestamp_seconds{file="TLS_CERT_FILE"}')).toBe(endsAt);
  });

  test("and are no good leave the old ones, and are counted", async () => {
    const before = await served();
    const failed = await runs("reload TLS files", "FAILED");
    files.write("TLS_KEY_FILE", newServer().key);
    strict.process.kill("SIGHUP");
    await until("it was seen", async () => (await runs("reload TLS files", "FAILED")) > failed);
    expect(await served()).toBe(before);
    await until("the log has it", () => strict.log().includes("TLS_KEY_FILE: is not the key"));
    files.write("TLS_KEY_FILE", "");
    strict.process.kill("SIGHUP");
    await until("and what is wrong next", () => strict.log().includes("TLS_KEY_FILE: is no private key in PEM"));
  });

  test("and take a scope away from a caller end the streams that began with it", async () => {
    const client = secureClient(strict.grpcPort, callers.points);
    onTestFinished(() => client.close());
    const watch = () => client.stream(EventService.method.watchEvents, {});
    const stream = watch();
    await stream.next();
    const less = { ...names, "points.example.org": ["catalog.read", "events.read"] };
    files.write("AUTH_CERTIFICATES_FILE", JSON.stringify(less));
    strict.process.kill("SIGHUP");
    const ended = (async () => {
      for await (const _ of stream);
    })();
    expect(await answerOf(ended)).toMatchObject({ code: "UNAUTHENTICATED", reason: "UNAUTHENTICATED" });
    const next = watch();
    expect((await next.next()).done).toBe(false);
    await next.return(undefined);
  });

  test("without a signal, too; and who is no caller any more is refused on an open connection", async () => {
    const long = secureClient(strict.grpcPort, callers.checkout);
    onTestFinished(() => long.close());
    expect(await answerOf(long.call(listCoupons, {}))).toMatchObject({ code: "OK" });
    files.write("AUTH_CERTIFICATES_FILE", JSON.stringify({ "reports.example.org": ["catalog.read"] }));
    await until(
      "it is refused",
      async () => (await answerOf(long.call(listCoupons, {}))).code === "UNAUTHENTICATED",
      20_000,
    );
  });
});
