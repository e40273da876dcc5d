import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { CatalogService } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { pathOf } from "../../support/api.js";
import { flag, frame, frameType, headerBlock, preface } from "../frames.js";
import { closedLoop } from "../loops.js";
import { cut, unanswered } from "../outcomes.js";
import type { Weapon } from "../weapon.js";

/** What is wrong with the bytes themselves, or with when they come. */

const getCoupon = pathOf(CatalogService.method.getCoupon);
/** An answer to what cannot be read costs nothing, and comes at once. */
const answerTimeoutMs = 3_000;

const brokenHost = `POST ${getCoupon} HTTP/1.1\r\nHost: [\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`;
const hostCallers = 20;
const hostPauseMs = 50;

export const hostBracket: Weapon = {
  name: "host-bracket",
  what: `HTTP/1.1 calls with "Host: [", ${hostCallers} at once: each must be answered with a status from 400 to 499`,
  async fire(field) {
    await field.begin();
    let wrong = 0;
    const ask = async () => {
      const answer = await firstBytes(field.httpPort, [brokenHost]);
      if (answer === undefined) return unanswered;
      const status = /^HTTP\/1\.1 (\d+)/.exec(answer.toString("latin1"))?.[1];
      if (!status?.startsWith("4")) wrong += 1;
      if (status?.startsWith("5")) return "INTERNAL";
      return status ? `HTTP ${status}` : cut;
    };
    await closedLoop(field, hostCallers, ask, hostPauseMs);
    if (wrong > 0) field.miss(`${wrong} calls had another answer than 4xx`);
  },
};

/** Where the preface is cut in two: after the letters that tell it from HTTP/1.1, before them, and in between. */
const cuts = [1, 2, 3, 4, 10, preface.length - 1];
const segmentPauseMs = 50;
/** The field `:status: 200`, as it stands in the static table. */
const status200 = 0x88;

export const splitPreface: Weapon = {
  name: "split-preface",
  what: "a check: an HTTP/2 preface that arrives on the HTTP port in two segments begins a connection like any other",
  seconds: 1,
  async fire(field) {
    const headers = headerBlock({
      ":method": "GET",
      ":scheme": "http",
      ":authority": "127.0.0.1",
      ":path": "/healthz",
    });
    const ask = frame(frameType.headers, flag.endHeaders | flag.endStream, 1, headers);
    const rest = Buffer.concat([frame(frameType.settings, 0, 0), ask]);
    await field.begin();
    for (const at of cuts) {
      const parts = [preface.subarray(0, at), Buffer.concat([preface.subarray(at), rest])];
      const answer = await firstBytes(field.httpPort, parts, (bytes) => answers200(bytes));
      const works = answer !== undefined && answers200(answer);
      field.tally.add(works ? "OK" : answer === undefined ? unanswered : "NOT_HTTP2");
      if (!works) field.miss(`cut after ${at} bytes, the preface is not understood`);
    }
  },
};

/** Whether these frames hold the headers of stream 1, and those begin with status 200. */
function answers200(bytes: Buffer): boolean {
  for (let at = 0; at + 9 < bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === frameType.headers) return bytes[at + 9] === status200;
  }
  return false;
}

/** Sends the parts one after the other, and answers what came back first; undefined: nothing did, nor was it closed. */
async function firstBytes(
  port: number,
  parts: readonly (string | Uint8Array)[],
  enough: (bytes: Buffer) => boolean = (bytes) => bytes.length > 0,
): Promise<Buffer | undefined> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  let bytes: Buffer = Buffer.alloc(0);
  socket.on("error", () => {});
  const done = new Promise<Buffer>((resolve) => {
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (enough(bytes)) resolve(bytes);
    });
    socket.once("close", () => resolve(bytes));
  });
  for (const [index, part] of parts.entries()) {
    if (index > 0) await sleep(segmentPauseMs);
    socket.write(part);
  }
  const first = await Promise.race([done, sleep(answerTimeoutMs)]);
  socket.destroy();
  return first ?? undefined;
}
