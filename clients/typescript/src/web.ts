/** The client for browsers, and for whatever else has `fetch`. */
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { type ClientOptions, transportOptions } from "./options.js";
import { type CouponClient, clientOver } from "./services.js";

export * from "./core.js";

export interface WebClientOptions extends ClientOptions {
  /** Both are spoken on the service's HTTP_PORT. Default: Connect. */
  readonly protocol?: "connect" | "grpc-web";
  /** Instead of the platform's. */
  readonly fetch?: typeof globalThis.fetch;
}

export function createCouponClient(options: WebClientOptions): CouponClient {
  const { protocol = "connect", fetch } = options;
  const { life: _, ...given } = transportOptions(options);
  const common = { ...given, useBinaryFormat: true, ...(fetch && { fetch }) };
  switch (protocol) {
    case "connect":
      return clientOver(createConnectTransport(common));
    case "grpc-web":
      return clientOver(createGrpcWebTransport(common));
    default:
      throw new RangeError(`protocol must be "connect" or "grpc-web", and not "${protocol}"`);
  }
}
