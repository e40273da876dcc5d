import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { BinaryReader } from "@bufbuild/protobuf/wire";

/** A span as a collector gets it. */
export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly name: string;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Readonly<Record<string, string | number>>;
  /** Of what sent it. */
  readonly resource: Readonly<Record<string, string | number>>;
}

/** A collector of OTLP over HTTP with protobuf, on a free port. */
export class TraceReceiver {
  readonly spans: ReceivedSpan[] = [];
  /** What it answers. */
  status = 200;
  /** Of each request. */
  readonly headers: NodeJS.Dict<string | string[]>[] = [];
  private readonly server = createServer((request, response) => {
    void buffer(request).then((body) => {
      this.headers.push({ ...request.headers, path: request.url });
      if (this.status === 200) this.spans.push(...spansIn(body));
      response.writeHead(this.status, { "content-type": "application/x-protobuf" }).end();
    });
  });

  /** Answers its address. */
  async open(): Promise<string> {
    await new Promise<void>((resolve) => void this.server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** Of a message: by the number of the field, what stands in it, as bytes or as a number. */
function fieldsOf(bytes: Uint8Array): (number: number) => (Uint8Array | bigint)[] {
  const found: [number, Uint8Array | bigint][] = [];
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (type === 2) found.push([number, reader.bytes()]);
    else if (type === 1) found.push([number, BigInt(reader.fixed64())]);
    else if (type === 0) found.push([number, BigInt(reader.uint64())]);
    else reader.skip(type, number);
  }
  return (number) => found.filter(([one]) => one === number).map(([, value]) => value);
}

const messages = (bytes: Uint8Array, number: number) => fieldsOf(bytes)(number) as Uint8Array[];
const text = (bytes: unknown) => Buffer.from((bytes as Uint8Array | undefined) ?? []).toString();
const hex = (bytes: unknown) => Buffer.from((bytes as Uint8Array | undefined) ?? []).toString("hex");

function attributesIn(pairs: readonly Uint8Array[]): Record<string, string | number> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const value = fieldsOf(messages(pair, 2)[0] as Uint8Array);
      const [string] = value(1);
      return [text(messages(pair, 1)[0]), string === undefined ? Number(value(3)[0]) : text(string)];
    }),
  );
}

/** Of an ExportTraceServiceRequest: resource_spans = 1, in these resource = 1 and scope_spans = 2, in these spans = 2. */
function spansIn(request: Uint8Array): ReceivedSpan[] {
  return messages(request, 1).flatMap((ofResource) => {
    const resource = attributesIn(messages(messages(ofResource, 1)[0] as Uint8Array, 1));
    const spans = messages(ofResource, 2).flatMap((ofScope) => messages(ofScope, 2));
    return spans.map((bytes) => {
      const span = fieldsOf(bytes);
      return {
        traceId: hex(span(1)[0]),
        spanId: hex(span(2)[0]),
        parentSpanId: hex(span(4)[0]),
        name: text(span(5)[0]),
        startNs: span(7)[0] as bigint,
        endNs: span(8)[0] as bigint,
        attributes: attributesIn(span(9) as Uint8Array[]),
        resource,
      };
    });
  });
}
