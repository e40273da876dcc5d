import { readFileSync } from "node:fs";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { inject } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";
import { withDatabase } from "./global-setup.js";
import type { AtEnd } from "./service.js";

export const password = "hush-hush-4711";

/** A database, and users of it who may do what deploy/postgres-roles.sql lets them. */
export interface DatabaseWithRoles {
  /** Of a user who owns the database and is no superuser, as with a provider. */
  readonly ownerUrl: string;
  readonly migrateUrl: string;
  readonly serveUrl: string;
  readonly readUrl: string;
  /** The name of a role of the script in this database: here roles are shared by tests. */
  role(name: "migrate" | "serve" | "read"): string;
  /** Runs the script, as the owner, and makes a user for each role. */
  makeRoles(): Promise<void>;
}

export async function databaseWithRoles(atEnd: AtEnd, name: string): Promise<DatabaseWithRoles> {
  const admin = postgres(inject("databaseUrl"), { max: 1, onnotice: () => {} });
  const kinds = ["migrate", "serve", "read"] as const;
  const role = (kind: string) => `coupon_${kind}_${name}`;
  const user = (kind: string) => `${kind}_${name}`;
  const urlOf = (kind: string) => {
    const url = new URL(withDatabase(inject("databaseUrl"), name));
    url.username = user(kind);
    url.password = password;
    return url.href;
  };
  await admin.unsafe(`CREATE ROLE ${user("owner")} LOGIN CREATEROLE PASSWORD '${password}'`);
  await admin.unsafe(`CREATE DATABASE ${name} TEMPLATE template0 OWNER ${user("owner")}`);
  atEnd(async () => {
    await admin.unsafe(`DROP DATABASE ${name} WITH (FORCE)`);
    // Some may have no rights to a function of all databases any more.
    const all = [...kinds.map(user), ...kinds.map(role), user("owner")];
    for (const { rolname } of await admin`SELECT rolname FROM pg_roles WHERE rolname = ANY (${all})`)
      await admin.unsafe(`DROP OWNED BY ${rolname} CASCADE`);
    for (const one of all) await admin.unsafe(`DROP ROLE IF EXISTS ${one}`);
    await admin.end();
  });
  const makeRoles = async () => {
    const text = readFileSync(join(packageRoot(), "deploy/postgres-roles.sql"), "utf8");
    await withSql(urlOf("owner"), async (sql) => {
      const script = text.replaceAll(/coupon_(?:migrate|serve|read)\b/g, (one) => `${one}_${name}`);
      await sql.begin((tx) => tx.unsafe(script));
      for (const kind of kinds)
        await sql.unsafe(`
          DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '${user(kind)}') THEN
              CREATE ROLE ${user(kind)} LOGIN PASSWORD '${password}' IN ROLE ${role(kind)};
            END IF;
          END $$`);
      await sql.unsafe(`ALTER ROLE ${user("migrate")} SET role = '${role("migrate")}'`);
    });
  };
  return {
    ...{ ownerUrl: urlOf("owner"), migrateUrl: urlOf("migrate"), serveUrl: urlOf("serve"), readUrl: urlOf("read") },
    ...{ role, makeRoles },
  };
}

export async function withSql<T>(url: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}
