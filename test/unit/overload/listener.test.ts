import * as net from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { Listener } from "../../../src/transport/overload/listener.js";
import { until } from "../../support/until.js";

async function listening(server: net.Server, port = 0): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return (server.address() as net.AddressInfo).port;
}

const isTaken = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
  });

test("a full server refuses at once, and listens again when it may have more; that it cannot is told once", async () => {
  const taken: net.Socket[] = [];
  const server = net.createServer((socket) => taken.push(socket.on("error", () => {})));
  onTestFinished(() => void server.close());
  const port = await listening(server);
  const failures: Error[] = [];
  const listener = new Listener(server, 16, (error) => failures.push(error));
  onTestFinished(() => listener.leave());
  await listener.ready;
  listener.limit(1);
  expect(await isTaken(port)).toBe(true);
  await until("it is full", async () => !server.listening);
  expect(await isTaken(port)).toBe(false);

  const other = net.createServer();
  await listening(other, port);
  taken[0]?.destroy();
  let tries = 0;
  server.on("error", () => {
    tries += 1;
  });
  await until("it has tried again and again", () => tries >= 3);
  await new Promise<void>((resolve) => other.close(() => resolve()));
  await until("it listens again", () => server.listening);
  expect(await isTaken(port)).toBe(true);
  expect(failures).toHaveLength(1);
});

test("shut again before it listens, over and over, it leaves no listeners behind", async () => {
  const server = net.createServer();
  onTestFinished(() => void server.close());
  await listening(server);
  const listener = new Listener(server, 16, () => {});
  onTestFinished(() => listener.leave());
  await listener.ready;
  const before = server.listenerCount("error");
  for (let round = 0; round < 20; round += 1) {
    listener.limit(0);
    listener.limit(1);
  }
  expect(server.listenerCount("error") - before).toBeLessThanOrEqual(1);
  await until("it listens", () => server.listening);
});
