import { type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  AuditService,
  AuthService,
  CatalogService,
  EventService,
  IssuanceService,
  UsageService,
  UserCouponService,
} from "./contract.js";

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
  return { ...(Object.fromEntries(clients) as Services), close };
}
