/** One of the servers that a database URL names. */
export interface DatabaseServer {
  readonly host: string;
  readonly port: number;
  /** Of this server alone, with the password in it. */
  readonly url: string;
}

const maxServers = 8;
const defaultHost = "localhost";
const defaultPort = 5_432;
const form = /^(postgres(?:ql)?:\/\/)([^/?#]*)(.*)$/s;
const hostForm = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]*))(?::(\d*))?$/i;
const sessionAttributes = "target_session_attrs";
/** Both mean the primary, and nothing else will do. */
const writing: readonly string[] = ["read-write", "primary"];
const tlsModes: readonly string[] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/** To the driver every other word means one of these, too. `ssl` is its own name for sslmode. */
const tlsWords: readonly (readonly [string, readonly string[]])[] = [
  ["ssl", [...tlsModes, "true", "false"]],
  ["sslmode", tlsModes],
];

/**
 * The servers of a URL as libpq spells it: `postgres://user:password@one:5432,two/database?target_session_attrs=read-write`.
 * Throws an error that says what is wrong, and nothing of the URL, in which there may be a password.
 */
export function databaseServers(text: string): readonly DatabaseServer[] {
  const [, scheme, authority, rest] = form.exec(text) ?? [];
  if (scheme === undefined || authority === undefined || rest === undefined) {
    throw new Error("must be postgres://user:password@host:port/database; several hosts are separated by commas");
  }
  const hostsAt = authority.lastIndexOf("@") + 1;
  const named = authority.slice(hostsAt).split(",");
  if (named.length > maxServers) throw new Error(`may name ${maxServers} hosts at most`);
  const servers = named.map((one) => {
    const [, bracketed, plain, digits] = hostForm.exec(one) ?? [];
    const host = bracketed ?? (authority.slice(hostsAt) === "" ? defaultHost : plain);
    const port = digits ? Number(digits) : defaultPort;
    if (!host) throw new Error("has a host that is none: write host or host:port, with commas between several");
    if (port < 1 || port > 65_535) throw new Error("has a port that is none: a port is 1 to 65535");
    const address = `${bracketed ? `[${bracketed}]` : host}:${port}`;
    return { host, port, url: urlOf(`${scheme}${authority.slice(0, hostsAt)}${address}${rest}`) };
  });
  if (new Set(servers.map(({ url }) => url)).size < servers.length) throw new Error("names a host twice");
  return servers;
}

/** Which server is the right one is found out here, and not by the driver. */
function urlOf(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new Error("is no URL: are the special characters of the password written as %40 and the like?");
  }
  try {
    for (const part of [url.username, url.password, url.host]) decodeURIComponent(part);
  } catch {
    throw new Error("has a % that is not followed by two hexadecimal digits; % itself is written %25");
  }
  const attributes = url.searchParams.get(sessionAttributes);
  if (attributes !== null && !writing.includes(attributes)) {
    throw new Error(`${sessionAttributes} must be ${writing.join(" or ")}: the service writes`);
  }
  url.searchParams.delete(sessionAttributes);
  for (const [name, words] of tlsWords) {
    if (!url.searchParams.getAll(name).every((word) => words.includes(word))) {
      throw new Error(`${name} must be one of ${words.join(", ")}`);
    }
  }
  if (url.searchParams.has("sslrootcert")) {
    throw new Error("sslrootcert is not supported: name the file of the authorities by NODE_EXTRA_CA_CERTS");
  }
  return url.href;
}

/** Whether its certificate must hold. */
export function isVerified({ url }: Pick<DatabaseServer, "url">): boolean {
  const { searchParams } = new URL(url);
  const mode = tlsWords.flatMap(([name]) => searchParams.getAll(name)).at(-1);
  return mode === "true" || mode?.startsWith("verify-") === true;
}

/** As errors and logs name it. */
export function addressOf({ host, port }: Pick<DatabaseServer, "host" | "port">): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
