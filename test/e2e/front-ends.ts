import { connect, type IncomingHttpHeaders } from "node:http2";
import { createRegistry, type DescMethodUnary, fromBinary, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { CallError, type GrpcClient } from "../support/clients.js";
import type { RestForm } from "../support/rest-form.js";

/** What a client sees of a call, whichever way it came. */
export interface Answer {
  /** The gRPC status code in words; "OK" when the call succeeded. */
  readonly code: string;
  readonly reason?: string | undefined;
  /** Field paths of BadRequest. */
  readonly fields: readonly string[];
  readonly retryDelayMs?: number | undefined;
  /** Of PreconditionFailure: "subject TYPE", as in "coupons[1] LOCKED". */
  readonly preconditions: readonly string[];
  readonly message: string;
}

const codeNames = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

const detailTypes = createRegistry(
  ...[BadRequestSchema, ErrorInfoSchema, PreconditionFailureSchema, RequestInfoSchema, RetryInfoSchema],
);

const none = { fields: [], preconditions: [] };
const ok: Answer = { code: "OK", ...none, message: "" };

export function pathOf(method: DescMethodUnary): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** Native gRPC, with any bytes as the message. */
export async function callNative(
  client: GrpcClient,
  method: DescMethodUnary,
  bytes: Uint8Array,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return await answerOf(client.callBytes(method, Buffer.from(bytes), { headers }));
}

/** What became of a call of GrpcClient. */
export async function answerOf(call: Promise<unknown>): Promise<Answer> {
  try {
    await call;
    return ok;
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    const { code, reason, fields, retryDelayMs, preconditions, message } = error;
    return { code: codeNames[code] ?? `code ${code}`, reason, fields, retryDelayMs, preconditions, message };
  }
}

/** The Connect protocol: `application/json` or `application/proto`. */
export async function callConnect(
  httpPort: number,
  path: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${httpPort}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
  });
  return await readConnect(response);
}

/** gRPC over HTTP/2, by hand: on native gRPC's port, or on the other. */
export async function callGrpc(
  port: number,
  path: string,
  body: Uint8Array,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const session = connect(`http://127.0.0.1:${port}`);
  try {
    return await new Promise<Answer>((resolve, reject) => {
      session.once("error", reject);
      const stream = session.request({
        ":method": "POST",
        ":path": path,
        te: "trailers",
        "content-type": "application/grpc",
        ...headers,
      });
      let heard: IncomingHttpHeaders = {};
      stream.on("response", (head) => {
        heard = { ...head, ...heard };
      });
      stream.on("trailers", (trailers) => {
        heard = { ...heard, ...trailers };
      });
      stream.on("error", () => {});
      stream.once("close", () => {
        const status = heard["grpc-status"];
        resolve(status === undefined ? { code: `reset ${stream.rstCode}`, ...none, message: "" } : readTrailers(heard));
      });
      stream.resume();
      stream.end(body);
    });
  } finally {
    session.destroy();
  }
}

function readTrailers(trailers: IncomingHttpHeaders): Answer {
  const code = Number(trailers["grpc-status"]);
  if (code === 0) return ok;
  const status = trailers["grpc-status-details-bin"] as string | undefined;
  const details = status ? fromBinary(StatusSchema, new Uint8Array(Buffer.from(status, "base64"))).details : [];
  return {
    code: codeNames[code] ?? `code ${code}`,
    message: decodeURIComponent(String(trailers["grpc-message"] ?? "")),
    ...readDetails(details),
  };
}

interface ConnectErrorJson {
  code?: string;
  message?: string;
  details?: { type: string; value: string }[];
}

export async function readConnect(response: Response): Promise<Answer> {
  const text = await response.text();
  if (response.ok) return ok;
  if (!(response.headers.get("content-type") ?? "").includes("json")) {
    return { code: `HTTP ${response.status}`, ...none, message: text };
  }
  return readConnectError(JSON.parse(text) as ConnectErrorJson);
}

function readConnectError(error: ConnectErrorJson): Answer {
  const details = (error.details ?? []).map(({ type, value }) => ({
    typeUrl: `type.googleapis.com/${type}`,
    value: new Uint8Array(Buffer.from(value, "base64")),
  }));
  const code = error.code === "canceled" ? "CANCELLED" : (error.code ?? "none").toUpperCase();
  return { code, message: error.message ?? "", ...readDetails(details) };
}

/** A stream by the Connect protocol, in JSON: what its last envelope says. */
export async function callConnectStream(
  httpPort: number,
  path: string,
  body: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${httpPort}${path}`, {
    method: "POST",
    headers: { "content-type": "application/connect+json", ...headers },
    body: envelope(Buffer.from(body)),
  });
  if (response.status !== 200) return await readConnect(response);
  const bytes = Buffer.from(await response.arrayBuffer());
  for (let at = 0; at < bytes.length; at += 5 + bytes.readUInt32BE(at + 1)) {
    if (bytes[at] !== 2) continue;
    const { error } = JSON.parse(bytes.toString("utf8", at + 5, at + 5 + bytes.readUInt32BE(at + 1)));
    if (error) return readConnectError(error as ConnectErrorJson);
  }
  return ok;
}

/** REST: an error is a `google.rpc.Status` in JSON. */
export async function callRest(
  httpPort: number,
  { verb, url, body }: RestForm,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${httpPort}${url}`, {
    method: verb,
    headers: { ...(body !== undefined && { "content-type": "application/json" }), ...headers },
    ...(body !== undefined && { body }),
  });
  const text = await response.text();
  if (response.ok) return ok;
  const status = fromJson(StatusSchema, JSON.parse(text) as JsonValue, { registry: detailTypes });
  return {
    code: codeNames[status.code] ?? `code ${status.code}`,
    message: status.message,
    ...readDetails(status.details),
  };
}

/** gRPC-Web with a body as it is, so that its envelope can be wrong as well. */
export async function callGrpcWeb(
  httpPort: number,
  path: string,
  body: Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${httpPort}${path}`, {
    method: "POST",
    headers: { "content-type": "application/grpc-web+proto", ...headers },
    body,
  });
  const trailers = new Headers(response.headers);
  const bytes = Buffer.from(await response.arrayBuffer());
  if (response.status !== 200) return { code: `HTTP ${response.status}`, ...none, message: bytes.toString() };
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at + 1);
    if (((bytes[at] ?? 0) & 0x80) !== 0) {
      for (const line of bytes.toString("utf8", at + 5, at + 5 + length).split("\r\n")) {
        const [name, ...value] = line.split(":");
        if (name) trailers.set(name, value.join(":").trim());
      }
    }
    at += 5 + length;
  }
  return readTrailers(Object.fromEntries(trailers));
}

/** One gRPC or gRPC-Web envelope. */
export function envelope(bytes: Uint8Array, flags = 0): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(bytes.length + 5);
  whole[0] = flags;
  new DataView(whole.buffer).setUint32(1, bytes.length);
  whole.set(bytes, 5);
  return whole;
}

function readDetails(details: readonly Pick<Status["details"][number], "typeUrl" | "value">[]) {
  let reason: string | undefined;
  let fields: string[] = [];
  let retryDelayMs: number | undefined;
  let preconditions: string[] = [];
  for (const { typeUrl, value } of details) {
    const any = { $typeName: "google.protobuf.Any" as const, typeUrl, value };
    reason = anyUnpack(any, ErrorInfoSchema)?.reason ?? reason;
    fields = anyUnpack(any, BadRequestSchema)?.fieldViolations.map(({ field }) => field) ?? fields;
    const delay = anyUnpack(any, RetryInfoSchema)?.retryDelay;
    if (delay) retryDelayMs = durationMs(delay);
    const failure = anyUnpack(any, PreconditionFailureSchema);
    if (failure) preconditions = failure.violations.map(({ type, subject }) => `${subject} ${type}`);
  }
  return { reason, fields, retryDelayMs, preconditions };
}
