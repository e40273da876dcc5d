import type { X509Certificate } from "node:crypto";
import { isScope, type Principal, type Scope, scopes } from "../domain/principal.js";
import type { Refusal } from "../domain/refusal.js";
import { type Credentials, unauthenticated, type Way } from "./authenticator.js";

export const maxCertificateNames = 10_000;
const maxNameLength = 2_048;

/** Callers by the name in their certificates. */
export type CertificateNames = ReadonlyMap<string, Principal>;

/** Why a certificate that holds is nobody's here; `ended`: since its connection was made. */
export type CertificateFailure = "unknown" | "no_name" | "several_names" | "ended";

interface Shown {
  /** What it can be known by: SPIFFE ids, or else host names. */
  readonly names: readonly string[];
  readonly endMs: number;
}

/**
 * Callers by the client certificate of their connection. The common name does not count: whoever signs certificates for hosts
 * does not look at it, and so proves nothing by it.
 */
export class Certificates implements Way {
  private readonly shown = new WeakMap<X509Certificate, Shown>();

  constructor(
    private names: CertificateNames,
    private readonly onFailure: (failure: CertificateFailure, names: readonly string[]) => void,
  ) {}

  /** From now on these are known, also on connections that are open. */
  use(names: CertificateNames): void {
    this.names = names;
  }

  authenticate(credentials: Credentials): Principal | Refusal | null {
    const certificate = credentials.certificate?.();
    if (!certificate) return null;
    const shown = this.read(certificate);
    const principals = shown.names.flatMap((name) => this.names.get(name) ?? []);
    const failure = failureOf(shown, principals);
    if (failure === undefined) return principals[0] as Principal;
    this.onFailure(failure, shown.names);
    return unauthenticated;
  }

  /** A connection may last longer than the certificate with which it began. */
  private read(certificate: X509Certificate): Shown {
    let shown = this.shown.get(certificate);
    if (!shown) {
      shown = { names: namesIn(certificate.subjectAltName), endMs: Date.parse(certificate.validTo) };
      this.shown.set(certificate, shown);
    }
    return shown;
  }
}

function failureOf({ names, endMs }: Shown, known: readonly Principal[]): CertificateFailure | undefined {
  if (Date.now() > endMs) return "ended";
  if (names.length === 0) return "no_name";
  if (known.length === 0) return "unknown";
  return known.length > 1 ? "several_names" : undefined;
}

/**
 * Node writes "DNS:a.example, URI:spiffe://b", and quotes a name that has a comma in it. Nobody here is called like that: such
 * a certificate is read no further.
 */
export function namesIn(subjectAltName = ""): readonly string[] {
  if (subjectAltName.includes('"')) return [];
  const all = subjectAltName.split(", ");
  const of = (kind: string) => all.flatMap((one) => (one.startsWith(kind) ? [one.slice(kind.length)] : []));
  const spiffe = of("URI:").filter((uri) => uri.startsWith("spiffe://"));
  return [...new Set(spiffe.length > 0 ? spiffe : of("DNS:").map((host) => host.toLowerCase()))];
}

/** Throws an error that says what is wrong with the file: JSON, from the names of callers to their scopes. */
export function readCertificateNames(text: string): CertificateNames {
  const file: unknown = parsed(text);
  if (typeof file !== "object" || file === null || Array.isArray(file)) {
    throw new Error('must be an object like {"spiffe://example.org/checkout": ["issue", "use"]}');
  }
  const entries = Object.entries(file);
  if (entries.length > maxCertificateNames) throw new Error(`has more than ${maxCertificateNames} names`);
  return new Map(entries.map(([name, its]) => [name, principal(name, its)]));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`is not JSON: ${(error as Error).message}`);
  }
}

const callerName = /^(spiffe:\/\/[a-z0-9._-]+(\/[A-Za-z0-9._-]+)*|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)$/;

function principal(name: string, its: unknown): Principal {
  const quoted = JSON.stringify(name);
  if (name.length > maxNameLength || !callerName.test(name)) {
    throw new Error(`${quoted} must be a SPIFFE id or a host name in small letters`);
  }
  if (!Array.isArray(its) || its.length === 0) throw new Error(`${quoted} must have a list of scopes`);
  const wrong = its.find((scope) => typeof scope !== "string" || !isScope(scope));
  if (wrong !== undefined) {
    throw new Error(`${quoted} has ${JSON.stringify(wrong)}, which is no scope; there are: ${scopes.join(", ")}`);
  }
  return { id: `certificate:${name}`, scopes: new Set(its as Scope[]) };
}
