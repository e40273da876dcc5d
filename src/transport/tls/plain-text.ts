import type { Socket } from "node:net";
import { isHttp1 } from "../sniff.js";

const advice = "This port speaks TLS: use https://, or a channel with TLS credentials.";
const goaway = 7;
const inadequateSecurity = 12;
const frameHeadBytes = 9;

/** Tells those who came without TLS what is missing, in what they speak, if that is known. */
export function answerInPlainText(socket: Socket, seen: Buffer): void {
  if (seen.toString("latin1", 0, 4) === "PRI ") socket.end(http2Goodbye());
  else if (isHttp1(seen)) {
    const body = `${advice}\n`;
    const head = `connection: close\r\ncontent-type: text/plain\r\ncontent-length: ${Buffer.byteLength(body)}`;
    socket.end(`HTTP/1.1 400 Bad Request\r\n${head}\r\n\r\n${body}`);
  } else {
    socket.destroy();
    return;
  }
  // What is still to come is thrown away: a connection that is closed with something unread in it loses the answer.
  socket.resume();
}

/** Empty SETTINGS, with which each side begins, and a GOAWAY that says why. */
function http2Goodbye(): Buffer {
  const text = Buffer.from(advice);
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
  const goodbye = Buffer.alloc(frameHeadBytes + 8);
  goodbye.writeUIntBE(8 + text.length, 0, 3);
  goodbye[3] = goaway;
  goodbye.writeUInt32BE(inadequateSecurity, frameHeadBytes + 4);
  return Buffer.concat([settings, goodbye, text]);
}
