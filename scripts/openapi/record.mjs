/**
 * Records the examples of the OpenAPI document: real calls to a running service, and what it answered.
 *
 *   KEY=ck_... node scripts/openapi/record.mjs http://127.0.0.1:8080 > scripts/openapi/examples.json
 *
 * The service must ask who calls (AUTH=keys) and be empty; the key needs all scopes.
 */
const [url] = process.argv.slice(2);
const key = process.env.KEY;
if (!url || !key) throw new Error("needs the address of a service, and KEY");

const examples = {};

async function call(service, method, request) {
  const answer = await fetch(`${url}/coupon.v1.${service}Service/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify(request),
  });
  const response = await answer.json();
  if (!answer.ok) throw new Error(`${method}: ${JSON.stringify(response)}`);
  // The first call of a method is its example.
  examples[method] ??= { request, response };
  return response;
}

const catalog = (method, request) => call("Catalog", method, request);
const usage = (method, request) => call("Usage", method, request);
const orderAmount = { currencyCode: "USD", minorUnits: "4200" };
// So far that who tries the examples is not too late.
const farAway = "2035-12-31T23:59:59Z";
const named = (name) => `${name}-7f1c`;

const { coupon } = await catalog("CreateCoupon", {
  coupon: {
    name: "Ten percent off",
    description: "Off any order from $10.",
    category: "rides",
    discount: { percentageBasisPoints: 1000, minimumOrderAmount: { currencyCode: "USD", minorUnits: "1000" } },
    expireTime: farAway,
    quantity: "1000",
    maxPerUser: 2,
    validityAfterIssue: "604800s",
    labels: { campaign: "autumn" },
  },
  requestId: named("create"),
});
const couponId = coupon.id;
await catalog("GetCoupon", { couponId });
await catalog("ListCoupons", { pageSize: 2 });
await catalog("SearchCoupons", { query: "ten percent", pageSize: 2 });
await catalog("UpdateCoupon", {
  coupon: { id: couponId, name: "Ten percent off rides", revision: coupon.revision },
  updateMask: "name",
  requestId: named("update"),
});
await catalog("PauseCoupon", { couponId, requestId: named("pause") });
await catalog("ResumeCoupon", { couponId, requestId: named("resume") });
const batch = await catalog("BatchCreateCoupons", {
  coupons: [
    {
      name: "Five dollars off",
      discount: { fixedAmount: { currencyCode: "USD", minorUnits: "500" } },
      expireTime: farAway,
    },
    { name: "Nothing off", expireTime: farAway },
  ],
  requestId: named("create-many"),
});
await catalog("DeleteCoupon", { couponId: batch.outcomes[0].coupon.id, requestId: named("delete") });

const book = await catalog("CreateCoupon", {
  coupon: { name: "A free ride", discount: { percentageBasisPoints: 10000 }, expireTime: farAway, codeBook: {} },
});
const bookId = book.coupon.id;
const upload = await catalog("UploadCodes", {
  couponId: bookId,
  lines: [{ code: "RIDE-7KQ2" }, { code: "RIDE-M0XD", terms: { maxUses: 2 } }, { code: "ride 7kq2" }],
  requestId: named("upload"),
});
const { job } = await catalog("GenerateCodes", {
  couponId: bookId,
  pattern: "RIDE-*{8}",
  count: 1000,
  requestId: named("generate"),
});
const jobId = job.id;
for (;;) {
  const answer = await fetch(`${url}/coupon.v1.CatalogService/GetCodeJob`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify({ jobId }),
  });
  if ((await answer.json()).job.state === "CODE_JOB_STATE_DONE") break;
}
await catalog("GetCodeJob", { jobId });
await catalog("ListCodeJobs", { couponId: bookId, pageSize: 2 });
await catalog("CancelCodeJob", { jobId, requestId: named("cancel-job") });
await catalog("ListCodes", { couponId: bookId, pageSize: 2 });

const { userCoupon } = await call("Issuance", "IssueCoupon", {
  couponId,
  userId: "user-42",
  requestId: named("issue"),
});
await call("Issuance", "BatchIssueCoupons", {
  couponId,
  userIds: ["user-43", "user-44"],
  requestId: named("issue-many"),
});
const chosen = {
  userId: "user-42",
  coupons: [{ userCouponId: userCoupon.id }],
  productId: "ride",
  orderId: "order-1001",
  orderAmount,
};
await usage("QuoteUsage", chosen);
const { locks } = await usage("LockCoupons", { ...chosen, requestId: named("lock") });
await usage("UnlockCoupons", {
  userId: "user-42",
  coupons: [{ userCouponId: userCoupon.id, lockVersion: locks[0].lockVersion }],
  requestId: named("unlock"),
});
const { usages } = await usage("UseCoupons", { ...chosen, requestId: named("use") });
await usage("GetUsage", { userId: "user-42", usageId: usages[0].id });
await usage("ListUsages", { userId: "user-42", pageSize: 2 });
const users = (method, request) => call("UserCoupon", method, request);
await users("GetUserCoupon", { userId: "user-42", userCouponId: userCoupon.id });
await users("ListUserCoupons", { userId: "user-42", pageSize: 2 });
await catalog("GetStats", { couponId });
await catalog("GetCouponActivity", { couponId });
await usage("CancelUsage", { userId: "user-42", usageId: usages[0].id, requestId: named("cancel") });
await users("DeleteUserCoupon", {
  userId: "user-42",
  userCouponId: userCoupon.id,
  restock: true,
  requestId: named("give-back"),
});
await catalog("DeleteCodes", { couponId: bookId, uploadId: upload.uploadId, requestId: named("delete-codes") });

const auth = (method, request) => call("Auth", method, request);
const created = await auth("CreateKey", {
  caller: "checkout",
  scopes: ["issue", "use"],
  requestId: named("create-key"),
});
const rotated = await auth("RotateKey", { keyId: created.key.id, overlap: "3600s", requestId: named("rotate-key") });
await auth("ListKeys", { caller: "checkout", pageSize: 2 });
await auth("SetCallerLimits", {
  caller: "checkout",
  limits: { issue: { perSecond: 500, atOnce: 100 }, use: { perSecond: 200 } },
  requestId: named("limits"),
});
await auth("GetCallerLimits", { caller: "checkout" });
await auth("ExpireKey", { keyId: rotated.key.id, expireTime: farAway, requestId: named("expire-key") });
await auth("RevokeKey", { keyId: rotated.key.id, requestId: named("revoke-key") });
await call("Event", "ListEvents", { userId: "user-42", pageSize: 2 });
await call("Audit", "ListAuditRecords", { method: "UpdateCoupon", pageSize: 2 });

// Whoever reads the document learns no secret, and no scanner for secrets finds one.
const text = JSON.stringify(examples, null, 1).replace(/(ck_[a-z2-7]{12}_)\w+/g, "$1...");
process.stdout.write(`${text}\n`);
