import { once } from "node:events";
import * as net from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { cutOffAfterGoodbye } from "../../../src/transport/overload/last-goodbye.js";
import { until } from "../../support/until.js";

const withinMs = 50;
let server: net.Server;
let port: number;
let clients: net.Socket[];

beforeEach(async () => {
  clients = [];
  server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  port = (server.address() as net.AddressInfo).port;
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  await new Promise((resolve) => server.close(resolve));
});

/** A client that goes when it is told to, or one that stays. The server listens to it as to one of HTTP/2. */
async function connect(options: { allowHalfOpen: boolean }): Promise<net.Socket> {
  const accepted = once(server, "connection");
  const client = net.connect({ port, host: "127.0.0.1", ...options });
  client.on("error", () => {}).resume();
  clients.push(client);
  const [socket] = (await accepted) as [net.Socket];
  socket.on("error", () => {}).resume();
  cutOffAfterGoodbye(socket, withinMs);
  return socket;
}

describe("a connection that we have ended", () => {
  test("is cut off when its client stays", async () => {
    const socket = await connect({ allowHalfOpen: true });
    socket.end();
    await until("it is cut off", () => socket.destroyed, 5_000);
    expect(clients[0]?.writable).toBe(true);
  });

  test("is over when its client goes", async () => {
    const socket = await connect({ allowHalfOpen: false });
    const over = once(socket, "close");
    socket.end();
    await over;
    expect(socket.readableEnded).toBe(true);
  });

  test("is left alone as long as we have not", async () => {
    const staying = await connect({ allowHalfOpen: true });
    const ended = await connect({ allowHalfOpen: true });
    ended.end();
    await until("the other one is cut off", () => ended.destroyed, 5_000);
    expect(staying.destroyed).toBe(false);
  });
});
