export { create, fromJson, toJson } from "@bufbuild/protobuf";
export { durationFromMs, durationMs, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
export type { CallOptions, Interceptor } from "@connectrpc/connect";
export * from "./contract.js";
export type { Credentials } from "./credentials.js";
export { formatMoney, money } from "./money.js";
export type { ClientOptions } from "./options.js";
export { type ItemOf, pages } from "./pages.js";
// The contract has a Code of its own: that of a coupon.
export {
  Code as StatusCode,
  ConnectError,
  isRefusal,
  type Reason,
  type Refusal,
  RefusalError,
  reasonOf,
  refusalOf,
} from "./refusal.js";
export { newRequestId } from "./request-id.js";
export type { RetryOptions } from "./retry.js";
export { type CouponClient, clientOver, type Services, services } from "./services.js";
