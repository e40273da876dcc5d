/**
 * The contract, as it was generated. This is the only file that names the generated folder, which the build puts beside it.
 */
export * from "../../../gen/coupon/v1/audit_service_pb.js";
export * from "../../../gen/coupon/v1/auth_service_pb.js";
export * from "../../../gen/coupon/v1/catalog_service_pb.js";
export * from "../../../gen/coupon/v1/code_pb.js";
export * from "../../../gen/coupon/v1/coupon_pb.js";
export * from "../../../gen/coupon/v1/error_reason_pb.js";
export * from "../../../gen/coupon/v1/event_pb.js";
export * from "../../../gen/coupon/v1/event_service_pb.js";
export * from "../../../gen/coupon/v1/issuance_service_pb.js";
export * from "../../../gen/coupon/v1/item_error_pb.js";
export * from "../../../gen/coupon/v1/options_pb.js";
export * from "../../../gen/coupon/v1/usage_pb.js";
export * from "../../../gen/coupon/v1/usage_service_pb.js";
export * from "../../../gen/coupon/v1/user_coupon_pb.js";
export * from "../../../gen/coupon/v1/user_coupon_service_pb.js";
export {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "../../../gen/google/rpc/error_details_pb.js";
