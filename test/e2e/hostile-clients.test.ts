import { connect } from "node:net";
import { afterAll, describe, expect, test } from "vitest";
import {
  callHeaders,
  code,
  flag,
  frame,
  frameType,
  headerBlock,
  preface,
  RawConnection,
  rstStream,
} from "../../bench/hostile/frames.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";
import { pathOf } from "./front-ends.js";
import { createSample, issued, readCoupon } from "./samples.js";

const issuePath = pathOf(IssuanceService.method.issueCoupon);

const { replica } = await oneReplica(afterAll);

const ports: [string, string, () => number][] = [
  ["the gRPC port", "application/grpc", () => replica.grpcPort],
  ["the HTTP port", "application/json", () => replica.httpPort],
];

/** More than any version of Node lets a connection reset in one go, whatever this service allows. */
const manyResets = 30_000;

describe.for(ports)("rapid reset on %s", ([, contentType, portOf]) => {
  test("ends that connection, and no other", async () => {
    const { id } = await createSample(replica.client);
    let told = false;
    const attacker = await RawConnection.open(portOf(), ({ type }) => {
      told ||= type === frameType.goaway;
    });
    let heard = 0;
    const honest = await RawConnection.open(portOf(), ({ type }) => {
      if (type === frameType.goaway) heard += 1;
    });
    const headers = callHeaders(issuePath, contentType);
    for (let index = 0; index < manyResets; index += 1) {
      const stream = 1 + 2 * index;
      attacker.write(frame(frameType.headers, flag.endHeaders, stream, headers));
      attacker.write(rstStream(stream, code.cancel));
    }
    await issued(replica.client, id, "while it lasts");
    await until("the connection is ended", () => told || !attacker.isOpen);
    attacker.destroy();
    await issued(replica.client, id, "afterwards");
    expect((await readCoupon(replica.client, id)).issuedCount).toBe(2n);
    expect([honest.isOpen, heard]).toEqual([true, 0]);
    honest.destroy();
  });
});

/** Beyond what one connection may have open at once, also when it does not heed the server's settings. */
const manyStreams = 10_100;

describe.for(ports)("streams that never end on %s", ([, contentType, portOf]) => {
  test("are bounded, and others are served", async () => {
    const { id } = await createSample(replica.client);
    let turnedAway = 0;
    let told = false;
    const attacker = await RawConnection.open(portOf(), ({ type, flags }) => {
      const ends = type === frameType.rstStream || (type <= frameType.headers && (flags & flag.endStream) !== 0);
      if (ends) turnedAway += 1;
      told ||= type === frameType.goaway;
    });
    const headers = callHeaders(issuePath, contentType);
    for (let index = 0; index < manyStreams; index += 1) {
      attacker.write(frame(frameType.headers, flag.endHeaders, 1 + 2 * index, headers));
    }
    await issued(replica.client, id, "while they stand");
    await until("those beyond the bound are turned away", () => turnedAway >= 100 || told || !attacker.isOpen);
    attacker.destroy();
    await issued(replica.client, id, "afterwards");
  });
});

/** The field `:status: 200`, as it stands in the static table of HPACK. */
const status200 = 0x88;

describe("an HTTP/2 preface in two segments", () => {
  test.for([[3], [10], [preface.length - 1]])("is understood when it is cut after %i bytes", async ([at]) => {
    const { id } = await createSample(replica.client);
    const headers = headerBlock({
      ":method": "GET",
      ":scheme": "http",
      ":authority": "localhost",
      ":path": "/healthz",
    });
    const ask = frame(frameType.headers, flag.endHeaders | flag.endStream, 1, headers);
    const socket = connect({ port: replica.httpPort, host: "127.0.0.1", noDelay: true });
    let bytes: Buffer = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
    });
    await new Promise((resolve) => socket.write(preface.subarray(0, at), resolve));
    // Once it has answered somebody else, the service has read the first segment.
    await readCoupon(replica.client, id);
    socket.write(Buffer.concat([preface.subarray(at), frame(frameType.settings, 0, 0), ask]));
    const status = await until("the call is answered", () => firstStatus(bytes));
    expect(status).toBe(status200);
    socket.destroy();
  });
});

/** The first byte of the first header block in these frames. */
function firstStatus(bytes: Buffer): number | undefined {
  for (let at = 0; at + 9 < bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === frameType.headers) return bytes[at + 9];
  }
  return undefined;
}
