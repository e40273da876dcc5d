import { execFile } from "node:child_process";
import { chown, copyFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import postgres from "postgres";
import { createTemporaryFolder } from "../embedded/data-folder.js";
import { type EmbeddedServers, startEmbedded } from "../embedded/embedded.js";

const run = promisify(execFile);

/**
 * A Postgres that is restored from a backup of the given one, and a Redis with nothing in it. The backup is made as pg_basebackup
 * makes it, which is not among the programs that the demo has: while the first one runs, its files are copied between the beginning
 * and the end of a backup, and after that the write-ahead log, which brings them to one moment.
 */
export async function restoreElsewhere(
  from: EmbeddedServers,
  cleanups: (() => Promise<void>)[],
): Promise<EmbeddedServers> {
  const folder = await createTemporaryFolder();
  cleanups.push(() => folder.release());
  await backUp(from.databaseUrl as string, from.dataDir, folder.path);
  const restored = await startEmbedded({ dataDir: folder.path });
  cleanups.push(() => restored.stop());
  return restored;
}

async function backUp(url: string, from: string, to: string): Promise<void> {
  const [source, target] = [join(from, "postgres"), join(to, "postgres")];
  // Both ends of a backup belong to one session.
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await sql`SELECT pg_backup_start('demo', true)`;
    await run("cp", ["-a", source, target]);
    const [end] = await sql<[{ labelfile: string }]>`SELECT labelfile FROM pg_backup_stop(false)`;
    await run("cp", ["-a", join(source, "pg_wal"), target]);
    const label = join(target, "backup_label");
    await writeFile(label, end.labelfile);
    // As root, the servers run as an account that owns their files.
    const { uid, gid } = await stat(source);
    await chown(label, uid, gid);
  } finally {
    await sql.end();
  }
  await rm(join(target, "postmaster.pid"), { force: true });
  // The same password, which Postgres has in its own tables.
  await copyFile(join(from, "secrets.json"), join(to, "secrets.json"));
}
