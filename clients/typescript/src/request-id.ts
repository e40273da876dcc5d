import { create, type DescMethod } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";

/** A name for one intent. Give it to a call yourself when your program may repeat the call after it has failed. */
export function newRequestId(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  // Browsers have randomUUID on secure pages only.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function hasRequestId(method: DescMethod): boolean {
  return method.input.field.requestId !== undefined;
}

/** Names each call that changes something, once for all its tries, so that to repeat it does it once. */
export const nameRequests: Interceptor = (next) => async (request) => {
  if (request.stream || !hasRequestId(request.method)) return await next(request);
  const message = request.message as { requestId?: string };
  if (message.requestId) return await next(request);
  // The message may be the caller's own, who may send it again as another intent.
  const named = Object.assign(create(request.method.input), message, { requestId: newRequestId() });
  return await next({ ...request, message: named });
};
