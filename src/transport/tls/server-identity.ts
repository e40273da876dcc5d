import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";

/** The texts of the files (PEM). */
export interface TlsTexts {
  /** The server's own certificate, then those that lead from it to one that clients trust. */
  readonly certificate: string;
  readonly key: string;
  /** Certificates of those who sign clients' certificates. */
  readonly clientCa?: string | undefined;
}

export interface TlsEnds {
  /** When the first certificate of each file ends, in ms since 1970. */
  readonly certificateMs: number;
  readonly clientCaMs: number | undefined;
}

/** Looks at all that can be wrong before a handshake fails of it. Throws an error that begins with the setting's name. */
export function inspectTls({ certificate, key, clientCa }: TlsTexts): TlsEnds {
  const chain = certificatesIn("TLS_CERT_FILE", certificate);
  if (!(chain[0] as X509Certificate).checkPrivateKey(privateKey(key))) {
    throw new Error("TLS_KEY_FILE: is not the key of the first certificate of TLS_CERT_FILE");
  }
  return {
    certificateMs: firstEndMs(chain),
    clientCaMs: clientCa === undefined ? undefined : firstEndMs(certificatesIn("TLS_CLIENT_CA_FILE", clientCa)),
  };
}

function privateKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new Error(`TLS_KEY_FILE: is no private key in PEM without a passphrase: ${(error as Error).message}`);
  }
}

function certificatesIn(setting: string, pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new Error(`${setting}: has no certificate in PEM`);
  return blocks.map((block, at) => {
    try {
      return new X509Certificate(block);
    } catch (error) {
      throw new Error(`${setting}: its certificate ${at + 1} cannot be read: ${(error as Error).message}`);
    }
  });
}

function firstEndMs(certificates: readonly X509Certificate[]): number {
  return Math.min(...certificates.map(({ validTo }) => Date.parse(validTo)));
}
