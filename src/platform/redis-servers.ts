import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";

/** What says where Redis is, as the environment has it. docs/configuration.md explains each. */
export interface RedisSettings {
  readonly REDIS_URL?: string | undefined;
  readonly REDIS_SENTINEL_USER?: string | undefined;
  readonly REDIS_SENTINEL_PASSWORD?: string | undefined;
  readonly REDIS_TLS_CA_FILE?: string | undefined;
  readonly REDIS_TLS_CERT_FILE?: string | undefined;
  readonly REDIS_TLS_KEY_FILE?: string | undefined;
}

export interface RedisHost {
  readonly host: string;
  readonly port: number;
}

/** One server, the Sentinels that know which one it is, or some nodes of a Cluster. */
export interface RedisServers {
  readonly kind: "server" | "sentinel" | "cluster";
  readonly hosts: readonly RedisHost[];
  /** The name by which Sentinels know the master; "" for the other kinds. */
  readonly masterName: string;
  readonly db: number;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly sentinelUser: string | undefined;
  readonly sentinelPassword: string | undefined;
  readonly tls: RedisTls | undefined;
}

/** In PEM. What is absent is what Node has: its own list of authorities, and no certificate of ours. */
export interface RedisTls {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** A setting that is wrong, and why. The text has nothing of its value, which may hold a password. */
export class WrongRedisSetting extends Error {
  constructor(
    readonly setting: keyof RedisSettings,
    message: string,
  ) {
    super(message);
  }
}

const kinds = { "": "server", "+sentinel": "sentinel", "+cluster": "cluster" } as const;
const defaultPorts = { server: 6_379, sentinel: 26_379, cluster: 6_379 } as const;
/** More than anybody lists; each is tried in turn. */
const maxHosts = 100;
const urlForm = /^redis(s?)(|\+sentinel|\+cluster):\/\/(?:([^/?#]*)@)?([^/?#@]*)(?:\/([^/?#]*))?(?:\?([^#]*))?$/;
const hostForm = /^(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+))(?::(\d{1,5}))?$/;

/** Throws WrongRedisSetting, also for a file that cannot be read. */
export function redisServers(settings: RedisSettings & { readonly REDIS_URL: string }): RedisServers {
  const { isSecure, ...servers } = readUrl(settings.REDIS_URL);
  for (const setting of ["REDIS_SENTINEL_USER", "REDIS_SENTINEL_PASSWORD"] as const) {
    if (settings[setting] && servers.kind !== "sentinel") {
      throw new WrongRedisSetting(setting, "needs a REDIS_URL that begins with redis+sentinel: or rediss+sentinel:");
    }
  }
  if (settings.REDIS_SENTINEL_USER && !settings.REDIS_SENTINEL_PASSWORD) {
    throw new WrongRedisSetting("REDIS_SENTINEL_USER", "needs REDIS_SENTINEL_PASSWORD");
  }
  return {
    ...servers,
    sentinelUser: settings.REDIS_SENTINEL_USER,
    sentinelPassword: settings.REDIS_SENTINEL_PASSWORD,
    tls: readTls(settings, isSecure),
  };
}

function wrongUrl(message: string): WrongRedisSetting {
  return new WrongRedisSetting("REDIS_URL", message);
}

/** By hand: a URL as Node knows it has one host. */
function readUrl(url: string) {
  const [, secure, kindText, userInfo, hostList, path = "", query = ""] = urlForm.exec(url) ?? [];
  if (kindText === undefined || hostList === undefined) {
    throw wrongUrl(
      "must be redis://host:6379/0, redis+sentinel://host:26379,host:26379/master-name?db=0 or " +
        "redis+cluster://host:6379,host:6379, with rediss instead of redis for TLS",
    );
  }
  const kind = kinds[kindText as keyof typeof kinds];
  const parameters = [...new URLSearchParams(query)];
  const unknown = parameters.find(([name]) => name !== "db");
  if (unknown || parameters.length > 1) throw wrongUrl("may have one parameter, and that is db");
  const [, dbText = kind === "server" ? path : ""] = parameters[0] ?? [];
  if (!/^\d{0,5}$/.test(dbText)) throw wrongUrl("has a database that is no number from 0 to 99999");
  if (kind === "server" && parameters.length > 0 && path !== "") throw wrongUrl("names its database twice");
  if (kind === "cluster" && (path !== "" || Number(dbText) > 0))
    throw wrongUrl("names a database: a Cluster has only 0");
  if (kind === "sentinel" && path === "") {
    throw wrongUrl("must name the master, as the Sentinels know it, after a slash behind the hosts");
  }
  return {
    isSecure: secure === "s",
    kind,
    hosts: readHosts(hostList, kind),
    masterName: kind === "sentinel" ? decoded(path) : "",
    db: Number(dbText),
    ...readUserInfo(userInfo),
  };
}

function readHosts(list: string, kind: RedisServers["kind"]): RedisHost[] {
  const hosts = list.split(",").map((text, index) => {
    const [, address, name, port = String(defaultPorts[kind])] = hostForm.exec(text) ?? [];
    const host = address ?? name;
    if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
      throw wrongUrl(
        `has a host that is none, the ${index + 1}. of ${list.split(",").length}: it must be host or host:port`,
      );
    }
    return { host, port: Number(port) };
  });
  if (hosts.length > maxHosts) throw wrongUrl(`has more than ${maxHosts} hosts`);
  if (kind === "server" && hosts.length > 1) {
    throw wrongUrl("has several hosts: begin it with redis+sentinel: or redis+cluster:");
  }
  return hosts;
}

function readUserInfo(userInfo: string | undefined): Pick<RedisServers, "user" | "password"> {
  if (!userInfo) return { user: undefined, password: undefined };
  const colon = userInfo.indexOf(":");
  const [user, password] = colon < 0 ? [userInfo, ""] : [userInfo.slice(0, colon), userInfo.slice(colon + 1)];
  return { user: decoded(user) || undefined, password: decoded(password) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrongUrl("has a % that is not followed by two hexadecimal digits; % itself is written %25");
  }
}

const fileSettings = { REDIS_TLS_CA_FILE: "ca", REDIS_TLS_CERT_FILE: "cert", REDIS_TLS_KEY_FILE: "key" } as const;

function readTls(settings: RedisSettings, isSecure: boolean): RedisTls | undefined {
  const tls: { -readonly [Part in keyof RedisTls]: string } = {};
  for (const [setting, part] of Object.entries(fileSettings) as [keyof typeof fileSettings, keyof RedisTls][]) {
    const file = settings[setting];
    if (!file) continue;
    if (!isSecure) throw new WrongRedisSetting(setting, "needs a REDIS_URL that begins with rediss");
    try {
      tls[part] = readFileSync(file, "utf8");
      // A key is looked at together with its certificate, below.
      if (part !== "key") createSecureContext({ [part]: tls[part] });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new WrongRedisSetting(setting, `must be a PEM file that can be read (${code})`);
    }
  }
  if ((tls.cert === undefined) !== (tls.key === undefined)) {
    const [setting, other] =
      tls.cert === undefined
        ? (["REDIS_TLS_KEY_FILE", "REDIS_TLS_CERT_FILE"] as const)
        : (["REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE"] as const);
    throw new WrongRedisSetting(setting, `needs ${other}`);
  }
  if (tls.cert === undefined) return isSecure ? tls : undefined;
  try {
    createSecureContext(tls);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new WrongRedisSetting(
      "REDIS_TLS_KEY_FILE",
      `must be the key of REDIS_TLS_CERT_FILE, without a passphrase (${code})`,
    );
  }
  return isSecure ? tls : undefined;
}
