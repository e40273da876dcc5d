import { expect, test } from "vitest";
import { EventService } from "../../gen/coupon/v1/event_service_pb.js";
import type { Principal, Scope } from "../../src/domain/principal.js";
import { Refusal } from "../../src/domain/refusal.js";
import { Authorization } from "../../src/transport/authorization.js";
import { streamOf } from "../../src/transport/stream-context.js";

const caller = (scopes: Scope[], of: Partial<Principal> = {}): Principal => ({
  id: "certificate:points.example.org",
  scopes: new Set(scopes),
  ...of,
});

const begun = caller(["events.read", "codes.read"]);
const route = { authorization: new Authorization(EventService.method.watchEvents) };

test.for<[string, Principal | Refusal, string | undefined]>([
  ["is who it was", caller(["events.read", "codes.read"]), undefined],
  ["may do more", caller(["events.read", "codes.read", "issue"]), undefined],
  ["may read no codes any more", caller(["events.read"]), "UNAUTHENTICATED"],
  ["may read no codes any more, but other things", caller(["events.read", "issue"]), "UNAUTHENTICATED"],
  ["may not follow any more", caller(["codes.read"]), "PERMISSION_DENIED"],
  ["is another one", caller(["events.read", "codes.read"], { id: "certificate:b" }), "UNAUTHENTICATED"],
  ["is an end user", caller(["events.read", "codes.read"], { userId: "anna" }), "UNAUTHENTICATED"],
  ["cannot be known now", new Refusal("STORE_UNAVAILABLE"), "STORE_UNAVAILABLE"],
])("whether a caller may go on that %s", async ([, now, reason]) => {
  const call = { header: () => undefined, deadlineMs: Number.POSITIVE_INFINITY };
  const { mayGoOn } = streamOf(call, new AbortController().signal, begun, { authenticate: () => now }, route);
  expect((await mayGoOn())?.reason).toBe(reason);
});
