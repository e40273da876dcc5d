import { X509Certificate } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Composed, type Way } from "../../../src/auth/authenticator.js";
import { Certificates, maxCertificateNames, namesIn, readCertificateNames } from "../../../src/auth/certificates.js";
import type { Principal } from "../../../src/domain/principal.js";
import { Refusal } from "../../../src/domain/refusal.js";
import { Authority, type CertificateOf } from "../../support/certificates.js";

const authority = new Authority("clients");
const certificate = (of: CertificateOf) => new X509Certificate(authority.issue(of).certificate);
const noHeader = () => undefined;

test.for([
  [undefined, []],
  ["DNS:a.example", ["a.example"]],
  ["DNS:A.example, IP Address:127.0.0.1, email:a@b.example, DNS:b.example, DNS:a.example", ["a.example", "b.example"]],
  ["DNS:a.example, URI:spiffe://x/Y", ["spiffe://x/Y"]],
  ["URI:https://x, DNS:a.example", ["a.example"]],
  ['URI:"https://x, DNS:a.example"', []],
  ['DNS:b.example, URI:"spiffe://x, URI:spiffe://y"', []],
] as const)("names in %s", ([text, expected]) => {
  expect(namesIn(text)).toEqual(expected);
});

test("what Node makes of a name with a comma in it is read as no name", () => {
  const { subjectAltName } = certificate({ names: ["URI:http://a, DNS:a.example"] });
  expect(subjectAltName).toContain("DNS:a.example");
  expect(namesIn(subjectAltName)).toEqual([]);
});

describe("the file", () => {
  test("has callers and their scopes", () => {
    const names = readCertificateNames(
      '{"spiffe://x.example/a/B": ["issue", "use"], "a-1.example": ["admin"], "localhost": ["use"]}',
    );
    expect([...names.values()]).toEqual([
      { id: "certificate:spiffe://x.example/a/B", scopes: new Set(["issue", "use"]) },
      { id: "certificate:a-1.example", scopes: new Set(["admin"]) },
      { id: "certificate:localhost", scopes: new Set(["use"]) },
    ]);
  });

  test.for([
    ["{", /is not JSON/],
    ["[]", /must be an object/],
    ["null", /must be an object/],
    ['{"A.example": ["use"]}', /"A.example" must be/],
    ['{"*.example": ["use"]}', /"\*.example" must be/],
    ['{"https://x": ["use"]}', /"https:\/\/x" must be/],
    ['{"": ["use"]}', /"" must be/],
    ['{"a.example": "use"}', /"a.example" must have a list/],
    ['{"a.example": []}', /"a.example" must have a list/],
    ['{"a.example": ["use", "fly"]}', /"a.example" has "fly".*there are: .*usage.read/],
    ['{"a.example": [1]}', /"a.example" has 1/],
  ] as const)("%s is refused", ([text, message]) => {
    expect(() => readCertificateNames(text)).toThrow(message);
  });

  test("with too many names is refused", () => {
    const names = Object.fromEntries(Array.from({ length: maxCertificateNames + 1 }, (_, at) => [`a${at}`, ["use"]]));
    expect(() => readCertificateNames(JSON.stringify(names))).toThrow(/more than/);
  });
});

describe("a caller", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"] }));
  afterEach(() => void vi.useRealTimers());

  const failures: string[] = [];
  const way = new Certificates(readCertificateNames('{"a.example": ["use"]}'), (why) => void failures.push(why));

  test("whose certificate ends while its connection lasts is refused from then on", () => {
    const shown = certificate({ names: ["DNS:a.example"] });
    const ask = () => way.authenticate({ header: noHeader, certificate: () => shown });
    expect(ask()).toMatchObject({ id: "certificate:a.example" });
    vi.setSystemTime(Date.parse(shown.validTo) + 1);
    expect(ask()).toBeInstanceOf(Refusal);
    expect(failures).toEqual(["ended"]);
  });

  test("without a certificate may be known in another way", () => {
    expect(way.authenticate({ header: noHeader, certificate: () => undefined })).toBeNull();
    expect(way.authenticate({ header: noHeader })).toBeNull();
  });
});

describe("several ways", () => {
  const principal = (id: string): Principal => ({ id, scopes: new Set() });
  const refused = new Refusal("UNAUTHENTICATED");
  const says = (known: Awaited<ReturnType<Way["authenticate"]>>, later = false): Way => ({
    authenticate: () => (later ? Promise.resolve(known) : known),
  });

  test.for([
    ["the first that knows the caller decides", [says(null), says(principal("b")), says(principal("c"))], "b"],
    ["also later", [says(null, true), says(principal("b"), true), says(principal("c"))], "b"],
    ["a refusal stands", [says(refused), says(principal("b"))], "UNAUTHENTICATED"],
    ["also later", [says(null), says(refused, true), says(principal("b"))], "UNAUTHENTICATED"],
    ["whom none knows is refused", [says(null), says(null, true)], "UNAUTHENTICATED"],
    ["without a way all are", [], "UNAUTHENTICATED"],
  ] as const)("%s", async ([, ways, expected]) => {
    const known = await new Composed(ways, { authFailed: () => {} }).authenticate({ header: noHeader });
    expect(known instanceof Refusal ? known.reason : known.id).toBe(expected);
  });
});
