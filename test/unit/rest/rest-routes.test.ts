import type { DescMethodUnary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AuditService } from "../../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import { OtherMethods, RestRoutes } from "../../../src/transport/rest/rest-routes.js";
import type { Route } from "../../../src/transport/routes.js";

const services = [AuditService, AuthService, CatalogService, IssuanceService, UsageService, UserCouponService];
const methods = services.flatMap((service) => service.methods as readonly DescMethodUnary[]);
const routeOf = (method: DescMethodUnary) => ({ method }) as Route;
const routes = new RestRoutes(methods.map(routeOf));

/** The method and what its variables are; or the methods that are allowed. */
function found(request: string): unknown {
  const [verb, url] = request.split(" ", 2) as [string, string];
  const match = routes.match(verb, url);
  if (match === undefined) return undefined;
  return match instanceof OtherMethods ? match.allowed : [match.route.method.name, ...match.values];
}

describe("a path finds its method", () => {
  const long = "x".repeat(7_000);
  test.for<[string, unknown]>([
    ["GET /v1/coupons", ["ListCoupons"]],
    ["HEAD /v1/coupons", ["ListCoupons"]],
    ["GET /v1/coupons?page_size=1", ["ListCoupons"]],
    ["GET /v1/coupons?a=/v1/codes", ["ListCoupons"]],
    ["POST /v1/coupons", ["CreateCoupon"]],
    ["POST /v1/coupons:batchCreate", ["BatchCreateCoupons"]],
    ["GET /v1/coupons:search?query=x", ["SearchCoupons"]],
    ["GET /v1/coupons/1", ["GetCoupon", "1"]],
    ["PATCH /v1/coupons/1", ["UpdateCoupon", "1"]],
    ["POST /v1/coupons/1:pause", ["PauseCoupon", "1"]],
    ["POST /v1/coupons/1/codes:upload", ["UploadCodes", "1"]],
    ["POST /v1/codes:upload", ["UploadCodes"]],
    // The last colon is that of the action.
    ["POST /v1/codes/A:B:use", ["UseCoupons", "A:B"]],
    ["POST /v1/codes/a:use:lock", ["LockCoupons", "a:use"]],
    ["POST /v1/codes/A%2FB%3Ause:use", ["UseCoupons", "A%2FB%3Ause"]],
    ["POST /v1/codes/..:use", ["UseCoupons", ".."]],
    // No action of this path: it is a part of the id, which is none.
    ["GET /v1/coupons/1:nothing", ["GetCoupon", "1:nothing"]],
    ["GET /v1/users/a:b/coupons", ["ListUserCoupons", "a:b"]],
    ["GET /v1/users/__proto__/coupons", ["ListUserCoupons", "__proto__"]],
    [`GET /v1/users/${long}/coupons`, ["ListUserCoupons", long]],
    ["POST /v1/users/a/coupons/1:cancelUsage", ["CancelUsage", "a", "1"]],
    ["PUT /v1/coupons", ["POST", "GET", "HEAD"]],
    ["OPTIONS /v1/coupons/1", ["GET", "HEAD", "PATCH", "DELETE"]],
    ["GET /v1/coupons/1:pause", ["POST"]],
    ["GET /v1/nothing", undefined],
    ["GET /v1/", undefined],
    ["GET /v1/coupons/", undefined],
    ["GET /v1//coupons", undefined],
    ["GET //v1/coupons", undefined],
    ["GET /v1/coupons/../coupons", undefined],
    ["GET /v1/%63oupons", undefined],
    ["GET /V1/coupons", undefined],
    ["GET /v1/constructor", undefined],
    ["GET /v1/__proto__", undefined],
    ["POST /v1/codes/:use", undefined],
    ["POST /v1/codes:use", undefined],
    ["GET http://there/v1/coupons", undefined],
    [`GET /v1${"/coupons".repeat(900)}`, undefined],
    [`GET /v1/coupons${":".repeat(7_000)}`, undefined],
  ])("%s", ([request, expected]) => {
    expect(found(request)).toEqual(expected);
  });
});

test("two methods cannot have the same path", () => {
  const { getCoupon } = CatalogService.method;
  expect(() => new RestRoutes([getCoupon, getCoupon].map(routeOf))).toThrow("GetCoupon has the path of another method");
});
