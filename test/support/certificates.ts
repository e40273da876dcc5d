import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";

/**
 * Certificates as tests need them, wrong ones too. Node can read certificates and not make them; what a test needs of the
 * format (X.509 in DER) is so little that it is written here.
 */
export interface Certified {
  readonly certificate: string;
  readonly key: string;
}

export interface CertificateOf {
  readonly commonName?: string;
  /** "DNS:a.example", "URI:spiffe://example.org/a" or "IP:127.0.0.1". */
  readonly names?: readonly string[];
  readonly validFromMs?: number;
  readonly validToMs?: number;
}

const hourMs = 3_600_000;

export class Authority {
  private readonly keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  readonly certificate: string;

  constructor(private readonly name: string) {
    this.certificate = this.certify(this.keys.publicKey, { commonName: name }, true);
  }

  issue(of: CertificateOf): Certified {
    const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const key = privateKey.export({ type: "pkcs8", format: "pem" }) as string;
    return { certificate: this.certify(publicKey, of, false), key };
  }

  private certify(publicKey: KeyObject, of: CertificateOf, isAuthority: boolean): string {
    const { commonName = "test", names = [], validFromMs = Date.now() - hourMs, validToMs = Date.now() + hourMs } = of;
    const extensions = [
      extension("551d13", sequence(...(isAuthority ? [der(0x01, Buffer.from([0xff]))] : []))),
      ...(names.length > 0 ? [extension("551d11", sequence(...names.map(generalName)))] : []),
    ];
    const content = sequence(
      der(0xa0, integer(Buffer.from([2]))),
      integer(Buffer.concat([Buffer.from([1]), randomBytes(8)])),
      ecdsaWithSha256,
      distinguishedName(this.name),
      sequence(time(validFromMs), time(validToMs)),
      distinguishedName(commonName),
      publicKey.export({ type: "spki", format: "der" }),
      der(0xa3, sequence(...extensions)),
    );
    const signature = sign("sha256", content, this.keys.privateKey);
    const whole = sequence(content, ecdsaWithSha256, der(0x03, Buffer.from([0]), signature));
    return `-----BEGIN CERTIFICATE-----\n${whole.toString("base64")}\n-----END CERTIFICATE-----\n`;
  }
}

function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const length = content.length < 0x80 ? [content.length] : [0x82, content.length >> 8, content.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

const sequence = (...parts: Buffer[]) => der(0x30, ...parts);
const integer = (bytes: Buffer) => der(0x02, bytes);
const objectId = (hex: string) => der(0x06, Buffer.from(hex, "hex"));
const extension = (id: string, value: Buffer) => sequence(objectId(id), der(0x04, value));
const ecdsaWithSha256 = sequence(objectId("2a8648ce3d040302"));
const distinguishedName = (name: string) =>
  sequence(der(0x31, sequence(objectId("550403"), der(0x0c, Buffer.from(name)))));
const time = (ms: number) => der(0x18, Buffer.from(new Date(ms).toISOString().replace(/\.\d+|[-:T]/g, "")));

function generalName(name: string): Buffer {
  const [kind, value] = [name.slice(0, name.indexOf(":")), name.slice(name.indexOf(":") + 1)];
  if (kind === "IP") return der(0x87, Buffer.from(value.split(".").map(Number)));
  return der(kind === "URI" ? 0x86 : 0x82, Buffer.from(value));
}
