import type { CallContext } from "../../src/domain/call-context.js";
import { anybody } from "../../src/domain/principal.js";

/** Of a call that comes to a handler or a store past the front ends. */
export function callContext(deadlineMs: number, changed: Partial<CallContext> = {}): CallContext {
  return { method: "Test", requestId: "test", callerRequestId: "", principal: anybody, deadlineMs, ...changed };
}
