import { createServer } from "node:net";
import tls from "node:tls";
import { expect, onTestFinished, test, vi } from "vitest";
import { databaseServers } from "../../src/platform/database-url.js";
import { openClient } from "../../src/storage/postgres/primary/server-state.js";
import { Authority } from "../support/certificates.js";

const authority = new Authority("servers");

/** What it says to whoever believes it: an error of the code 28000. */
const refusal = Buffer.from("E\0\0\0\x1dSFATAL\0C28000\0Mbelieved\0\0", "latin1");
const believed = "28000";
const anothers = "ERR_TLS_CERT_ALTNAME_INVALID";

/** A Postgres that agrees to TLS, shows this certificate, and lets nobody in. Answers its port. */
async function secureServer(names: string[]): Promise<number> {
  const { certificate: cert, key } = authority.issue({ names });
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write("S");
      const secured = new tls.TLSSocket(socket, { isServer: true, cert, key });
      secured.on("error", () => {}).once("data", () => secured.end(refusal));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return (server.address() as { port: number }).port;
}

/** The code of the error. */
async function codeOf(url: string): Promise<unknown> {
  const [server] = databaseServers(url);
  if (!server) throw new Error("no server");
  const sql = openClient(server, { max: 1, backoff: false });
  onTestFinished(() => sql.end({ timeout: 0 }));
  return sql`SELECT 1`.then(
    () => "answered",
    (error: { code?: unknown }) => error.code,
  );
}

test.each([
  ["localhost", ["DNS:localhost"], believed],
  ["localhost", ["IP:127.0.0.1"], anothers],
  ["127.0.0.1", ["IP:127.0.0.1"], believed],
  ["127.0.0.1", ["DNS:localhost"], anothers],
])("%s is believed for a certificate of its own: %s", async (host, names, expected) => {
  const port = await secureServer(names);
  // As NODE_EXTRA_CA_CERTS does.
  const connect: (options: tls.ConnectionOptions) => tls.TLSSocket = tls.connect;
  const spy = vi.spyOn(tls as { connect: typeof connect }, "connect");
  spy.mockImplementation((options) => connect({ ...options, ca: authority.certificate }));
  onTestFinished(() => spy.mockRestore());
  for (const mode of ["sslmode=verify-full", "sslmode=verify-ca", "ssl=true"]) {
    expect(await codeOf(`postgres://${host}:${port}/x?${mode}`), mode).toBe(expected);
  }
  expect(await codeOf(`postgres://${host}:${port}/x?sslmode=require`)).toBe(believed);
});

test("whose authority is not known is believed only where nothing is to be verified", async () => {
  const port = await secureServer(["DNS:localhost"]);
  const url = `postgres://localhost:${port}/x?sslmode=`;
  expect(await codeOf(`${url}verify-full`)).toBe("UNABLE_TO_VERIFY_LEAF_SIGNATURE");
  expect(await codeOf(`${url}require`)).toBe(believed);
});
