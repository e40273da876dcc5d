import type { Socket } from "node:net";

/** How long a client has to end its side of a connection after we have ended ours. */
const goodbyeMs = 10_000;

/** A client that was told to go and stays all the same would have the place of another one for ever: it is cut off. */
export function cutOffAfterGoodbye(socket: Socket, withinMs = goodbyeMs): void {
  socket.once("finish", () => {
    const timer = setTimeout(() => socket.destroy(), withinMs);
    timer.unref();
    socket.once("close", () => clearTimeout(timer));
  });
}
