import { constants } from "node:crypto";
import * as http2 from "node:http2";
import * as net from "node:net";
import * as tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { ArrivalDeadlines } from "../../../src/transport/messages/arrival-deadlines.js";
import { SecurePort, type UseSecured } from "../../../src/transport/tls/secure-port.js";
import { Authority } from "../../support/certificates.js";
import { until } from "../../support/until.js";

const authority = new Authority("servers");
const { certificate: cert, key } = authority.issue({ names: ["DNS:localhost"] });

let listener: net.Server;
let secure: SecurePort;
let failures: string[];
let clients: net.Socket[];
let use: UseSecured;
/** Handshakes begun in each turn of the event loop. */
let begun: number[];

/** A client has so long for its first word, and for the handshake. */
async function open(timeoutMs = 60_000): Promise<void> {
  failures = [];
  clients = [];
  begun = [];
  use = (socket, isHttp2) => {
    socket.on("error", () => {});
    socket.end(isHttp2 ? "h2" : "http/1.1");
  };
  let inTurn = 0;
  secure = new SecurePort({
    context: {
      cert,
      key,
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    },
    asksClients: false,
    refusesUnknown: false,
    deadlines: new ArrivalDeadlines(timeoutMs, 10),
    handshakeTimeoutMs: timeoutMs,
    onFailure: (why) => void failures.push(why),
    use: (...secured) => use(...secured),
  });
  listener = net.createServer((socket) => {
    socket.on("error", () => {});
    // TLS takes the connection over when it asks for what was read before.
    const read = socket.read.bind(socket);
    let isCounted = false;
    socket.read = (size) => {
      if (socket.readableLength > 0 && !isCounted) {
        isCounted = true;
        if (inTurn === 0)
          setImmediate(() => {
            begun.push(inTurn);
            inTurn = 0;
          });
        inTurn += 1;
      }
      return read(size);
    };
    secure.accept(socket);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
}
afterEach(async () => {
  for (const client of clients) client.destroy();
  await new Promise((resolve) => listener.close(resolve));
});

const port = () => (listener.address() as net.AddressInfo).port;

function dial(): net.Socket {
  const client = net.connect(port(), "127.0.0.1");
  client.on("error", () => {});
  client.resume();
  clients.push(client);
  return client;
}

function hear(ALPNProtocols?: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const client = tls.connect({
      port: port(),
      ca: authority.certificate,
      servername: "localhost",
      ...(ALPNProtocols && { ALPNProtocols }),
    });
    clients.push(client);
    client.once("data", (heard) => resolve(String(heard)));
    client.once("error", reject);
    client.once("close", () => reject(new Error("closed")));
  });
}

test("the two sides agree on what is spoken", async () => {
  await open();
  expect(await Promise.all([hear(["h2"]), hear(["http/1.1", "h2"]), hear(["http/1.1"]), hear()])).toEqual([
    ...["h2", "h2", "http/1.1", "http/1.1"],
  ]);
  await expect(hear(["spdy/1"])).rejects.toThrow(/no application protocol/i);
  expect(failures).toEqual(["FAILED"]);
});

test("reading can be stopped in the middle, as overload protection does it", async () => {
  await open();
  const server = http2.createServer();
  const handle = new Promise<{ readStart?: unknown; readStop?: unknown }>((resolve) =>
    server.once("session", (session) => resolve(Reflect.get(session.socket, "_handle"))),
  );
  use = (socket) => void server.emit("connection", socket);
  const session = http2.connect(`https://localhost:${port()}`, { ca: authority.certificate });
  session.on("error", () => {});
  const { readStart, readStop } = await handle;
  expect([typeof readStart, typeof readStop]).toEqual(["function", "function"]);
  session.destroy();
});

test("who says nothing, and who does not end the handshake, is cut", { timeout: 20_000 }, async () => {
  await open(200);
  const silent = dial();
  const slow = dial();
  slow.write(Buffer.from([0x16, 3, 1, 0x10, 0, 1]));
  await Promise.all([silent, slow].map((client) => new Promise((resolve) => client.once("close", resolve))));
  expect(failures).toEqual(["SLOW", "SLOW"]);
});

test("who goes in the middle of it is counted", async () => {
  await open();
  const client = dial();
  client.write(Buffer.from([0x16, 3, 1, 0x10, 0, 1]));
  client.end();
  await until("it is seen", () => failures.length > 0);
  expect(failures).toEqual(["CLOSED"]);
});

test("of many handshakes a few begin in each turn of the event loop, and all come to their end", async () => {
  await open();
  const heard = await Promise.all(Array.from({ length: 40 }, () => hear(["h2"])));
  expect(heard).toEqual(Array(40).fill("h2"));
  expect(begun.reduce((sum, one) => sum + one, 0)).toBe(40);
  expect(Math.max(...begun)).toBeLessThanOrEqual(4);
});

test("a port that closes cuts those that are not through", async () => {
  await open();
  const waiting = dial();
  await new Promise((resolve) => listener.once("connection", resolve));
  const closed = new Promise((resolve) => waiting.once("close", resolve));
  secure.close();
  await closed;
});
