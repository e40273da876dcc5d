import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";

export const saslMechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] as const;
export type SaslMechanism = (typeof saslMechanisms)[number];

interface KafkaBroker {
  readonly host: string;
  readonly port: number;
}

export interface KafkaSettings {
  readonly brokers: readonly KafkaBroker[];
  readonly topic: string;
  /** undefined: plain text. */
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string } | undefined;
  readonly sasl:
    | { readonly mechanism: SaslMechanism; readonly username: string; readonly password: string }
    | undefined;
}

const defaultPort = 9_092;
const maxBrokers = 32;
const oneBroker = /^(?:\[([\da-fA-F:.]+)\]|([\w.-]+))(?::(\d{1,5}))?$/;

/** `host:port`, some of them with commas between; undefined: it is none. */
export function readBrokers(text: string): readonly KafkaBroker[] | undefined {
  const brokers = text.split(",").map((one) => {
    const [, ipv6, name, port = defaultPort] = oneBroker.exec(one.trim()) ?? [];
    return { host: ipv6 ?? name ?? "", port: Number(port) };
  });
  const areGood = brokers.every(({ host, port }) => host !== "" && port > 0 && port <= 65_535);
  return areGood && brokers.length <= maxBrokers ? brokers : undefined;
}

type Name =
  | "BROKERS"
  | "TOPIC"
  | "SSL"
  | "SSL_CA_FILE"
  | "SSL_CERT_FILE"
  | "SSL_KEY_FILE"
  | "SASL_MECHANISM"
  | "USERNAME"
  | "PASSWORD";
type Given = { readonly [Setting in `KAFKA_${Name}`]?: string | undefined };
type AllGiven = Record<string, string | undefined>;
const files = { KAFKA_SSL_CA_FILE: "ca", KAFKA_SSL_CERT_FILE: "cert", KAFKA_SSL_KEY_FILE: "key" } as const;

/** What is wrong with the settings together, and with the files that they name. */
export function kafkaProblems(given: AllGiven): string[] {
  const isGiven = (name: string) => Boolean(given[name]);
  if (!isGiven("KAFKA_BROKERS")) {
    const names = Object.keys(given).filter((name) => name.startsWith("KAFKA_") && isGiven(name));
    return names.map((name) => `${name}: needs KAFKA_BROKERS`);
  }
  const problems: string[] = [];
  const need = (name: string, other: string) => {
    if (isGiven(name) && !isGiven(other)) problems.push(`${other}: must be set for ${name}`);
  };
  for (const name of ["KAFKA_USERNAME", "KAFKA_PASSWORD"]) {
    need("KAFKA_SASL_MECHANISM", name);
    if (isGiven(name) && !isGiven("KAFKA_SASL_MECHANISM")) problems.push(`${name}: needs KAFKA_SASL_MECHANISM`);
  }
  need("KAFKA_SSL_CERT_FILE", "KAFKA_SSL_KEY_FILE");
  need("KAFKA_SSL_KEY_FILE", "KAFKA_SSL_CERT_FILE");
  for (const name of Object.keys(files)) {
    if (isGiven(name) && given.KAFKA_SSL !== "on") problems.push(`${name}: needs KAFKA_SSL=on`);
  }
  return problems.length > 0 ? problems : fileProblems(given);
}

function fileProblems(given: AllGiven): string[] {
  let last = "";
  try {
    const texts: Record<string, string> = {};
    for (const [name, part] of Object.entries(files)) {
      const file = given[name];
      if (!file) continue;
      last = name;
      texts[part] = readFileSync(file, "utf8");
      // A certificate is looked at together with its key.
      if (part !== "cert") createSecureContext(texts);
    }
    return [];
  } catch (error) {
    return [
      `${last}: must be a PEM file that can be read, and a key that of its certificate (${(error as NodeJS.ErrnoException).code})`,
    ];
  }
}

/** Of settings that were found to be right. undefined: nothing is published. */
export function kafkaSettings(given: Given): KafkaSettings | undefined {
  const brokers = given.KAFKA_BROKERS ? readBrokers(given.KAFKA_BROKERS) : undefined;
  if (!brokers) return undefined;
  const texts = Object.entries(files).flatMap(([name, part]) => {
    const file = given[name as keyof typeof files];
    return file ? [[part, readFileSync(file, "utf8")]] : [];
  });
  const { KAFKA_SASL_MECHANISM: mechanism, KAFKA_USERNAME: username = "", KAFKA_PASSWORD: password = "" } = given;
  return {
    ...{ brokers, topic: given.KAFKA_TOPIC ?? "" },
    tls: given.KAFKA_SSL === "on" ? Object.fromEntries(texts) : undefined,
    sasl: mechanism ? { mechanism: mechanism as SaslMechanism, username, password } : undefined,
  };
}
