import { type CallOptions, type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  AuditService,
  AuthService,
  CatalogService,
  EventService,
  IssuanceService,
  UsageService,
  UserCouponService,
} from "./contract.js";
import { told } from "./refusal.js";

/** Every service of the contract, by the name that it has in a client. Their methods come from the contract. */
export const services = {
  catalog: CatalogService,
  issuance: IssuanceService,
  userCoupons: UserCouponService,
  usage: UsageService,
  auth: AuthService,
  events: EventService,
  audit: AuditService,
} as const;

export type Services = { readonly [K in keyof typeof services]: Client<(typeof services)[K]> };

export interface CouponClient extends Services {
  /** Closes the connections. Calls at work fail. */
  close(): void;
}

/** All services over one transport: for transports of your own. It has no retries, deadlines or credentials but the transport's. */
export function clientOver(transport: Transport, close: () => void = () => {}): CouponClient {
  const clients = Object.entries(services).map(([name, service]) => [name, createClient(service, transport)]);
  const { events, ...others } = Object.fromEntries(clients) as Services;
  return { ...others, events: { ...events, watchEvents: streaming(events.watchEvents) }, close };
}

type Stream<Q, A> = (request: Q, options?: CallOptions) => AsyncIterable<A>;

/** Streams have the deadline that the call gives them, or none, and end when their reader leaves the loop; Connect goes on with them. */
function streaming<Q, A>(open: Stream<Q, A>): Stream<Q, A> {
  return (request, { signal, timeoutMs = 0, ...options } = {}) => {
    const left = new AbortController();
    const ends = signal ? AbortSignal.any([signal, left.signal]) : left.signal;
    const messages = open(request, { ...options, timeoutMs, signal: ends });
    return (async function* () {
      try {
        yield* messages;
      } catch (error) {
        throw told(error);
      } finally {
        left.abort();
      }
    })();
  };
}
