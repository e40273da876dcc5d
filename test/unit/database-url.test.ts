import { expect, test } from "vitest";
import { addressOf, databaseServers } from "../../src/platform/database-url.js";

const good: [string, string[]][] = [
  ["postgres://anna:secret@db:5433/coupons", ["postgres://anna:secret@db:5433/coupons"]],
  ["postgresql://db/coupons", ["postgresql://db:5432/coupons"]],
  ["postgres://", ["postgres://localhost:5432"]],
  ["postgres://a@one:1,two/x", ["postgres://a@one:1/x", "postgres://a@two:5432/x"]],
  ["postgres://a@[::1]:5,[fe80::2]/x", ["postgres://a@[::1]:5/x", "postgres://a@[fe80::2]:5432/x"]],
  [
    "postgres://a:p%40,@one,two/x?target_session_attrs=read-write&sslmode=require",
    ["postgres://a:p%40,@one:5432/x?sslmode=require", "postgres://a:p%40,@two:5432/x?sslmode=require"],
  ],
  ["postgres://one,two/x?target_session_attrs=primary", ["postgres://one:5432/x", "postgres://two:5432/x"]],
];
test.for(good)("%s", ([text, urls]) => {
  const servers = databaseServers(text);
  expect(servers.map(({ url }) => url)).toEqual(urls);
  // As the driver is told it, and as logs name it.
  for (const { host, port, url } of servers) {
    expect(url).toContain(addressOf({ host, port }));
    expect(host).not.toMatch(/[[\]@]/);
  }
});

const bad: [string, RegExp][] = [
  ["db", /^must be postgres:/],
  ["mysql://db/secret", /^must be postgres:/],
  ["postgres://a:secret@one,/x", /a host that is none/],
  ["postgres://a:secret@one,,two/x", /a host that is none/],
  ["postgres://a:secret@one:80:90/x", /a host that is none/],
  ["postgres://a:secret@one:0/x", /a port is 1 to 65535/],
  ["postgres://a:secret@one:5432,two:65536/x", /a port is 1 to 65535/],
  ["postgres://a:secret@one,two,one:5432/x", /names a host twice/],
  [`postgres://a:secret@${Array.from({ length: 9 }, (_, n) => `h${n}`)}/x`, /8 hosts at most/],
  ["postgres://a:secret@o ne/x", /is no URL/],
  ["postgres://a:secret100%@one/x", /% itself is written %25/],
  ["postgres://a:secret%zz@one/x", /% itself is written %25/],
  ["postgres://50%:secret@one,two/x", /% itself is written %25/],
  ["postgres://a:secret@one%/x", /% itself is written %25/],
  ["postgres://a:secret@one,two/x?target_session_attrs=standby", /must be read-write or primary/],
  ["postgres://a:secret@one/x?target_session_attrs=any", /must be read-write or primary/],
  ["postgres://a:secret@one/x?sslmode=requier", /^sslmode must be one of disable, /],
  ["postgres://a:secret@one/x?sslmode=", /^sslmode must be one of disable, /],
  ["postgres://a:secret@one/x?sslmode=require&sslmode=off", /^sslmode must be one of disable, /],
  ["postgres://a:secret@one/x?ssl=no-verify", /^ssl must be one of disable, /],
  ["postgres://a:secret@one/x?sslmode=require&sslrootcert=/ca.pem", /by NODE_EXTRA_CA_CERTS/],
];
test.for(bad)("%s is refused, and nothing of it told", ([text, message]) => {
  expect(() => databaseServers(text)).toThrow(message);
  expect(() => databaseServers(text)).not.toThrow(/secret/);
});
