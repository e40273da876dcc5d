import { create, type DescMessage, type DescMethodUnary } from "@bufbuild/protobuf";
import type { Validator } from "@bufbuild/protovalidate";
import { AuditService } from "../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService, CreateCouponRequestSchema } from "../../gen/coupon/v1/catalog_service_pb.js";
import type { Coupon } from "../../gen/coupon/v1/coupon_pb.js";
import { EventService } from "../../gen/coupon/v1/event_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { freshKey } from "../auth/keys/key-text.js";
import type { WrongCodes } from "../auth/limits/wrong-codes.js";
import { Refusal } from "../domain/refusal.js";
import { andAlso } from "../domain/violations.js";
import type { GateKeeper } from "../issuing/gate-keeper.js";
import type { CodeGenerator } from "../jobs/code-generator.js";
import type { Clock } from "../platform/clock.js";
import type { FailureLog } from "../platform/failure-log.js";
import { listAuditRecords, wrongInAuditFilter } from "../services/audit/list-audit-records.js";
import { createKey } from "../services/auth/create-key.js";
import { expireKey } from "../services/auth/expire-key.js";
import { getCallerLimits } from "../services/auth/get-caller-limits.js";
import { wrongInTimes } from "../services/auth/key-message.js";
import { listKeys } from "../services/auth/list-keys.js";
import { revokeKey } from "../services/auth/revoke-key.js";
import { rotateKey } from "../services/auth/rotate-key.js";
import { setCallerLimits } from "../services/auth/set-caller-limits.js";
import { batchCreateCoupons } from "../services/catalog/batch-create-coupons.js";
import { cancelCodeJob } from "../services/catalog/cancel-code-job.js";
import { createCoupon, wrongInCoupon } from "../services/catalog/create-coupon.js";
import { deleteCodes, wrongInDelete } from "../services/catalog/delete-codes.js";
import { deleteCoupon } from "../services/catalog/delete-coupon.js";
import { generateCodes, wrongInGenerate } from "../services/catalog/generate-codes.js";
import { getCodeJob } from "../services/catalog/get-code-job.js";
import { getCoupon } from "../services/catalog/get-coupon.js";
import { getCouponActivity } from "../services/catalog/get-coupon-activity.js";
import { getStats } from "../services/catalog/get-stats.js";
import { listCodeJobs } from "../services/catalog/list-code-jobs.js";
import { listCodes } from "../services/catalog/list-codes.js";
import { listCoupons } from "../services/catalog/list-coupons.js";
import { pauseCoupon } from "../services/catalog/pause-coupon.js";
import { resumeCoupon } from "../services/catalog/resume-coupon.js";
import { searchCoupons, wrongInSearch } from "../services/catalog/search-coupons.js";
import { updateCoupon, wrongInUpdate } from "../services/catalog/update-coupon.js";
import { uploadCodes } from "../services/catalog/upload-codes.js";
import { wrongInCursor } from "../services/event/event-message.js";
import { listEvents } from "../services/event/list-events.js";
import { watchEvents, wrongInWatch } from "../services/event/watch-events.js";
import { batchIssueCoupons } from "../services/issuance/batch-issue-coupons.js";
import { issueCoupon } from "../services/issuance/issue-coupon.js";
import { wrongInPage } from "../services/page-token.js";
import { cancelUsage, wrongInCancel } from "../services/usage/cancel-usage.js";
import { getUsage } from "../services/usage/get-usage.js";
import { listUsages } from "../services/usage/list-usages.js";
import { lockCoupons } from "../services/usage/lock-coupons.js";
import { wrongInOrder } from "../services/usage/order.js";
import { quoteUsage } from "../services/usage/quote-usage.js";
import { unlockCoupons, wrongInUnlock } from "../services/usage/unlock-coupons.js";
import { useCoupons } from "../services/usage/use-coupons.js";
import { deleteUserCoupon } from "../services/user-coupon/delete-user-coupon.js";
import { getUserCoupon } from "../services/user-coupon/get-user-coupon.js";
import { listUserCoupons } from "../services/user-coupon/list-user-coupons.js";
import { explain, messageOf } from "../transport/error-table.js";
import { inOrder } from "../transport/messages/field-order.js";
import { type AlsoWrong, type Handler, type Pipeline, violationsIn } from "../transport/pipeline.js";
import { type Route, routeOf } from "../transport/routes.js";
import type { Auth } from "./auth.js";
import type { Engines } from "./engines.js";
import type { Following } from "./following.js";
import { guessing } from "./guesses.js";
import type { Stores } from "./stores.js";

export interface RpcParts {
  readonly stores: Stores;
  readonly engines: Engines;
  readonly following: Following;
  readonly keeper: GateKeeper;
  readonly codeGenerator: CodeGenerator;
  readonly pipeline: Pipeline;
  readonly validator: Validator;
  readonly failures: FailureLog;
  readonly clock: Clock;
  readonly auth: Pick<Auth, "catchUp">;
  /** Absent: nobody looks at wrong codes. */
  readonly wrongCodes: WrongCodes | undefined;
}

/** Every RPC with its handler. */
export function mountRpcs({
  stores,
  engines,
  following,
  keeper,
  codeGenerator,
  pipeline,
  validator,
  failures,
  clock,
  auth: { catchUp },
  wrongCodes,
}: RpcParts): Route[] {
  const { coupons, codes, userCoupons, usages, targets, keys, callers } = stores;
  const { issuer, typeIssuer, checkout, cancels } = engines;
  const rpc = <I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    handler: Handler<I, O>,
    alsoWrong?: AlsoWrong<I>,
  ): Route => routeOf(method, pipeline.mount(method, handler, alsoWrong));
  /** Of methods that take codes. */
  const rpcByCode = <I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    handler: Handler<I, O>,
    alsoWrong?: AlsoWrong<I>,
  ): Route => rpc(method, guessing(method, handler, wrongCodes), alsoWrong);
  // The gate's copy goes before the edit is committed; if Redis is away, a sweep does it.
  const invalidate = (couponId: string) => keeper.invalidate(couponId);
  // What can be issued by type now is known at once by the replica that has changed it.
  const changing =
    <I extends DescMessage, O extends DescMessage>(handler: Handler<I, O>): Handler<I, O> =>
    async (request, context) => {
      try {
        return await handler(request, context);
      } finally {
        typeIssuer.forget();
      }
    };
  // The replica that has changed a key knows it before it says so: whoever is told a new one may use it there at once.
  const changingKeys =
    <I extends DescMessage, O extends DescMessage>(handler: Handler<I, O>): Handler<I, O> =>
    async (request, context) => {
      const answer = await handler(request, context);
      if (!(answer instanceof Refusal)) await catchUp(context.deadlineMs);
      return answer;
    };
  const violationsOf = (coupon: Coupon, now: Date) => {
    const schema = CreateCouponRequestSchema;
    const violations = violationsIn(validator, schema, create(schema, { coupon }));
    return violations.length > 0 ? inOrder(schema, andAlso(violations, wrongInCoupon(coupon, now))) : [];
  };
  const issueFailed = (error: unknown) => failures.failed("issue to one of many", error);

  const catalog = CatalogService.method;
  const issuance = IssuanceService.method;
  const userCoupon = UserCouponService.method;
  const usage = UsageService.method;
  const auth = AuthService.method;
  const { watchers, feed, reader } = following;
  const { watchEvents: watch, listEvents: list } = EventService.method;
  return [
    routeOf(watch, pipeline.mountStream(watch, watchEvents(watchers, feed, reader), wrongInWatch)),
    rpc(list, listEvents(reader), wrongInCursor),
    rpc(catalog.createCoupon, changing(createCoupon(coupons)), ({ coupon }) =>
      wrongInCoupon(coupon, new Date(clock.nowMs())),
    ),
    rpc(catalog.batchCreateCoupons, changing(batchCreateCoupons(coupons, violationsOf, explain))),
    rpc(catalog.getCoupon, getCoupon(coupons)),
    rpc(catalog.listCoupons, listCoupons(coupons), wrongInPage()),
    rpc(catalog.updateCoupon, changing(updateCoupon(coupons, invalidate)), wrongInUpdate),
    rpc(catalog.deleteCoupon, deleteCoupon(coupons, invalidate)),
    rpc(catalog.pauseCoupon, pauseCoupon(coupons, invalidate)),
    rpc(catalog.resumeCoupon, changing(resumeCoupon(coupons, invalidate))),
    rpc(catalog.searchCoupons, searchCoupons(stores.search), wrongInSearch),
    rpc(catalog.uploadCodes, changing(uploadCodes(codes, invalidate))),
    rpc(catalog.generateCodes, generateCodes(codes, codeGenerator), wrongInGenerate),
    rpc(catalog.getCodeJob, getCodeJob(codes)),
    rpc(catalog.listCodeJobs, listCodeJobs(codes), wrongInPage()),
    rpc(catalog.cancelCodeJob, cancelCodeJob(codes, invalidate)),
    rpc(catalog.deleteCodes, deleteCodes(codes, invalidate), wrongInDelete),
    rpc(catalog.listCodes, listCodes(codes, coupons), wrongInPage("number")),
    rpc(catalog.getStats, getStats(stores.stats)),
    rpc(catalog.getCouponActivity, getCouponActivity(issuer.activity, clock)),
    rpcByCode(issuance.issueCoupon, issueCoupon(issuer, typeIssuer, targets)),
    rpc(issuance.batchIssueCoupons, batchIssueCoupons(issuer, explain, issueFailed)),
    rpc(userCoupon.getUserCoupon, getUserCoupon(userCoupons, usages)),
    rpc(userCoupon.listUserCoupons, listUserCoupons(userCoupons, usages), wrongInPage()),
    rpc(userCoupon.deleteUserCoupon, deleteUserCoupon(userCoupons, keeper)),
    rpcByCode(usage.quoteUsage, quoteUsage(checkout, usages, messageOf), wrongInOrder),
    rpcByCode(usage.lockCoupons, lockCoupons(checkout, usages), wrongInOrder),
    rpcByCode(usage.unlockCoupons, unlockCoupons(usages), wrongInUnlock),
    rpcByCode(usage.useCoupons, useCoupons(checkout, usages), wrongInOrder),
    rpc(usage.cancelUsage, cancelUsage(cancels), wrongInCancel),
    rpc(usage.getUsage, getUsage(usages)),
    rpc(usage.listUsages, listUsages(usages), wrongInPage()),
    rpc(auth.createKey, changingKeys(createKey(keys, freshKey)), wrongInTimes),
    rpc(auth.listKeys, listKeys(keys), wrongInPage("number")),
    rpc(auth.rotateKey, changingKeys(rotateKey(keys, freshKey)), wrongInTimes),
    rpc(auth.expireKey, changingKeys(expireKey(keys)), wrongInTimes),
    rpc(auth.revokeKey, changingKeys(revokeKey(keys))),
    rpc(auth.setCallerLimits, changingKeys(setCallerLimits(callers))),
    rpc(auth.getCallerLimits, getCallerLimits(callers)),
    rpc(AuditService.method.listAuditRecords, listAuditRecords(stores.audit), wrongInAuditFilter),
  ];
}
