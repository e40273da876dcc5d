import postgres from "postgres";
import { afterAll, expect, test } from "vitest";
import { startEmbedded } from "../../embedded/embedded.js";
import { readCommitLevel } from "../../src/storage/postgres/durability.js";
import { until } from "../support/until.js";

/** A server of its own: what it sets holds for all of its databases. */
const servers = await startEmbedded({ servers: ["postgres"] });
afterAll(() => servers.stop());
const url = servers.databaseUrl as string;

test("a server that can lose what was committed ends the start, unless that is wanted", async () => {
  expect(await readCommitLevel(url)).toBe("on");
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await sql`ALTER SYSTEM SET full_page_writes = off`;
    await sql`SELECT pg_reload_conf()`;
    await until("the server has read it", async () => {
      const [row] = await sql<{ setting: string }[]>`SELECT current_setting('full_page_writes') AS setting`;
      return row?.setting === "off";
    });
  } finally {
    await sql.end();
  }
  await expect(readCommitLevel(url)).rejects.toThrow(/full_page_writes off.*DATABASE_DURABILITY=off/);
  expect(await readCommitLevel(url, "off")).toBe("on");
});
