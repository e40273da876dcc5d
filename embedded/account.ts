import { readFile } from "node:fs/promises";

/** The user and group that the servers run as. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** What Linux systems agree on for "nobody", for the rare one whose account file does not list it. */
const nobody: Account = { uid: 65534, gid: 65534 };

export function runsAsRoot(): boolean {
  return process.getuid?.() === 0;
}

/**
 * The account for the servers, or undefined for the caller's own.
 *
 * Postgres refuses to run as root, so root starts both servers as "nobody": the one account that exists on every system
 * and by convention owns no file, so that a server gone wrong can touch nothing but its own data. An account named
 * "postgres" would be no better: where it exists, it owns the databases of another installation.
 */
export async function serverAccount(): Promise<Account | undefined> {
  if (!runsAsRoot()) {
    return undefined;
  }
  if (process.platform !== "linux") {
    throw new Error("The embedded servers cannot run as root on this system: start the command as an ordinary user.");
  }
  const accounts = await readFile("/etc/passwd", "utf8").catch(() => "");
  const fields = accounts
    .split("\n")
    .find((line) => line.startsWith("nobody:"))
    ?.split(":");
  const uid = Number(fields?.[2]);
  const gid = Number(fields?.[3]);
  return uid > 0 && gid > 0 ? { uid, gid } : nobody;
}
