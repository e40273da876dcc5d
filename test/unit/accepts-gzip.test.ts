import { expect, test } from "vitest";
import { acceptsGzip } from "../../src/transport/connect/node-request.js";

test.each([
  ["gzip", true],
  ["GZIP", true],
  ["br, gzip", true],
  ["gzip ; q=0.5, br", true],
  ["gzip;q=0.001", true],
  ["gzip;q=1.0", true],
  ["gzip;q=0", false],
  ["br, gzip; q=0.000", false],
  ["gzip;Q=0 , br", false],
  ["identity;q=0, gzip", true],
  ["x-gzip, gzipped", false],
  ["br", false],
  ["", false],
  [undefined, false],
  [null, false],
])("with accept-encoding %j an answer may be compressed: %j", (header, isAccepted) => {
  expect(acceptsGzip(header)).toBe(isAccepted);
});
