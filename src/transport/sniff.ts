import type { Socket } from "node:net";
import type { ArrivalDeadlines } from "./messages/arrival-deadlines.js";

/** HTTP/2 with prior knowledge begins with this, which is no HTTP/1.1 request. */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** A request of HTTP/1.1 begins with its method, as does HTTP/2's preface. */
export function isHttp1(seen: Buffer): boolean {
  return /^[A-Z]{3,7} /.test(seen.toString("latin1", 0, 8));
}

/**
 * Reads as much of a connection as it takes to know what is spoken on it, and puts it back. What comes in pieces is waited
 * for, up to the preface's 24 bytes and as long as a message may take to arrive; then the connection is cut.
 */
export function sniff(
  socket: Socket,
  deadlines: ArrivalDeadlines,
  use: (isHttp2: boolean, seen: Buffer) => void,
): void {
  let seen: Buffer = Buffer.alloc(0);
  const arrival = deadlines.begin(() => socket.destroy());
  const end = () => deadlines.end(arrival);
  const look = (chunk: Buffer) => {
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const length = Math.min(seen.length, preface.length);
    const isPreface = seen.subarray(0, length).equals(preface.subarray(0, length));
    if (isPreface && length < preface.length) return;
    socket.off("data", look);
    socket.off("close", end);
    end();
    socket.pause();
    socket.unshift(seen);
    use(isPreface, seen);
  };
  socket.once("close", end);
  socket.on("data", look);
}
