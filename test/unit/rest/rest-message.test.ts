import {
  type DescMethodUnary,
  equals,
  fromJson,
  type JsonObject,
  type JsonValue,
  type Message,
  toJson,
} from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AuditService } from "../../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import { Refusal } from "../../../src/domain/refusal.js";
import { Misread } from "../../../src/transport/messages/wrong-fields.js";
import { type Binding, bindingsOf } from "../../../src/transport/rest/binding.js";
import { readRest } from "../../../src/transport/rest/rest-message.js";
import { OtherMethods, RestRoutes } from "../../../src/transport/rest/rest-routes.js";
import { boundsOf, type Route } from "../../../src/transport/routes.js";
import { messageOf } from "../../support/any-message.js";
import { isVariable, restForm } from "../../support/rest-form.js";

const services = [AuditService, AuthService, CatalogService, IssuanceService, UsageService, UserCouponService];
const methods = services.flatMap((service) => service.methods as readonly DescMethodUnary[]);
const routes = new RestRoutes(methods.map((method) => ({ method, ...boundsOf(method) }) as Route));

async function read(verb: string, url: string, body = ""): Promise<unknown> {
  const match = routes.match(verb, url);
  if (!match || match instanceof OtherMethods) throw new Error(`${verb} ${url} is not served`);
  return await readRest(match, Buffer.from(body), match.route);
}

/** Field and what is said of it. */
async function wrong(verb: string, url: string, body?: string): Promise<string[]> {
  const answer = await read(verb, url, body);
  return answer instanceof Refusal ? answer.violations.map(({ field, description }) => `${field}: ${description}`) : [];
}

/** undefined: JSON or a query cannot say it: times past their range, halves of surrogate pairs. */
function inJson({ method }: Binding, message: Message): JsonObject | undefined {
  try {
    const json = toJson(method.input, message) as JsonObject;
    fromJson(method.input, json);
    encodeURIComponent(Object.values(json).join());
    return json;
  } catch {
    return undefined;
  }
}

const bindings = methods.flatMap(bindingsOf);
test.for(bindings.map((binding) => [`${binding.method.name} by ${binding.verb}`, binding] as const))(
  "%s reads what direct JSON reads",
  async ([, binding]) => {
    const { method, segments } = binding;
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(
        messageOf(method.input, 2),
        fc.string({ minLength: 1, maxLength: 40 }),
        async (message, text) => {
          const variables = segments.filter(isVariable);
          const json = inJson(binding, message);
          if (!json) return;
          // The path names one field of a oneof, and an outer message is there when one of its fields is.
          for (const path of variables) {
            if (path.length === 1) {
              for (const other of path[0].oneof?.fields ?? []) delete json[other.jsonName];
              json[path[0].jsonName] = text;
            } else
              json[path[0].jsonName] = {
                ...(json[path[0].jsonName] as JsonObject),
                [path[1]?.jsonName as string]: text,
              };
          }
          const { verb, url, body } = restForm(binding, json);
          const answer = await read(verb, url, body);
          const direct = fromJson(method.input, json);
          expect(answer instanceof Refusal ? answer.violations : answer).toSatisfy((one: Message) =>
            Array.isArray(one) ? false : equals(method.input, one, direct),
          );
          compared += 1;
        },
      ),
      { numRuns: 20 },
    );
    expect(compared).toBeGreaterThan(0);
  },
);

describe("a query", () => {
  const id = "0192f3a0-0000-7000-8000-000000000000";
  test.for<[string, JsonValue]>([
    ["/v1/coupons?page_size=20&show_deleted=true", { pageSize: 20, showDeleted: true }],
    ["/v1/coupons?pageSize=20&&showDeleted=false&", { pageSize: 20 }],
    [
      "/v1/coupons:search?query=ten+per%20cent%2B&type=COUPON_TYPE_FREE",
      { query: "ten per cent+", type: "COUPON_TYPE_FREE" },
    ],
    ["/v1/coupons:search?type=1", { type: "COUPON_TYPE_FREE" }],
    [
      "/v1/users/a%2Fb/coupons?statuses=1&statuses=USER_COUPON_STATUS_LOCKED",
      { userId: "a/b", statuses: ["USER_COUPON_STATUS_READY", "USER_COUPON_STATUS_LOCKED"] },
    ],
    ["/v1/users/%25252F/coupons", { userId: "%252F" }],
    ["/v1/users/a+b/coupons", { userId: "a+b" }],
    ["/v1/auditRecords?start_time=2027-01-01T00:00:00Z", { startTime: "2027-01-01T00:00:00Z" }],
    [`/v1/coupons/${id}/stats`, { couponId: id }],
  ])("%s", async ([url, expected]) => {
    const match = routes.match("GET", url);
    if (!match || match instanceof OtherMethods) throw new Error("not served");
    const { input } = match.route.method;
    expect(toJson(input, (await read("GET", url)) as Message)).toEqual(toJson(input, fromJson(input, expected)));
  });

  test.for<[string, string[]]>([
    ["/v1/coupons?nothing=1", ["nothing: is no parameter of ListCoupons"]],
    ["/v1/coupons?__proto__=1", ["__proto__: is no parameter of ListCoupons"]],
    ["/v1/coupons?__proto__.page_size=1", ["__proto__.page_size: is no parameter of ListCoupons"]],
    ["/v1/coupons?constructor.prototype=1", ["constructor.prototype: is no parameter of ListCoupons"]],
    ["/v1/coupons?page_size.x=1", ["page_size.x: is no parameter of ListCoupons"]],
    ["/v1/coupons?page_size=1&pageSize=1", ["page_size: is set more than once"]],
    ["/v1/coupons?page_size=", ['page_size: must be a whole number in decimal digits: "1000"']],
    ["/v1/coupons?show_deleted=yes", ["show_deleted: must be true or false"]],
    ["/v1/coupons?page_token=%ff", ["page_token: is not percent-encoded UTF-8"]],
    ["/v1/coupons?%ff=1", ["%ff: is no parameter of ListCoupons"]],
    ["/v1/auditRecords?start_time.seconds=1", ["start_time.seconds: is no parameter of ListAuditRecords"]],
    [`/v1/coupons/${id}?coupon_id=${id}`, ["coupon_id: is set by the path"]],
    ["/v1/coupons/%ff", ["coupon_id: is not percent-encoded UTF-8"]],
    [`/v1/coupons?${"a&".repeat(4_000)}`, [": has more parts than such a message can need: more than 1000"]],
  ])("%s is refused", async ([url, expected]) => {
    expect(await wrong("GET", url)).toEqual(expected);
  });

  test("of very deep names nothing is built", async () => {
    expect(await wrong("GET", `/v1/coupons?${"coupon.".repeat(1_100)}name=1`)).toHaveLength(1);
  });
});

describe("a path, a query and a body", () => {
  const update = "/v1/coupons/1?update_mask=name,start_time&request_id=r";
  const parts = async (verb: string, url: string, body?: string) => {
    const match = routes.match(verb, url);
    if (!match || match instanceof OtherMethods) throw new Error("not served");
    const answer = await read(verb, url, body);
    return answer instanceof Refusal ? answer.violations : toJson(match.route.method.input, answer as Message);
  };
  const updated = { coupon: { id: "1", name: "New" }, updateMask: "name,startTime", requestId: "r" };

  test("make one request", async () => {
    expect(await parts("PATCH", update, '{"name":"New"}')).toEqual(updated);
    // As it was read before.
    expect(await parts("PATCH", update, '{"id":"1","name":"New"}')).toEqual(updated);
    expect(await parts("POST", "/v1/coupons/1:pause")).toEqual({ couponId: "1" });
    expect(await parts("POST", "/v1/coupons")).toEqual({});
  });

  test.for<[string, string, string, string[]]>([
    ["PATCH", update, '{"id":"2"}', ["coupon.id: is another one in the body than in the path"]],
    ["PATCH", `${update}&coupon.name=x`, "{}", ["coupon.name: belongs into the body"]],
    ["PATCH", update, '{"nam":1}', ["coupon.nam: is no field of coupon.v1.Coupon"]],
    ["PATCH", update, '{},"request_id":"s"', ["coupon: the body is not JSON in UTF-8"]],
    ["PATCH", update, "{", ["coupon: the body is not JSON in UTF-8"]],
    ["POST", "/v1/coupons/1:pause?request_id=r", "{}", ["request_id: belongs into the body"]],
    ["POST", "/v1/coupons/1:issue", '{"couponId":"2"}', ["coupon_id: is in the path, and the body names another one"]],
    ["POST", "/v1/coupons/1:issue", '{"code":"A"}', ["coupon_id: is in the path, and the body names another one"]],
    ["GET", "/v1/coupons", "{}", [": GET takes no body: parameters are in the query"]],
    ["DELETE", "/v1/coupons/1", "{}", [": DELETE takes no body: parameters are in the query"]],
  ])("%s %s with %s is refused", async ([verb, url, body, expected]) => {
    expect(await wrong(verb, url, body)).toEqual(expected);
  });

  test("all that is wrong is told at once, and the rest is looked at", async () => {
    const answer = await read("PATCH", "/v1/coupons/1?x=1&update_mask=A%20B_", '{"nam":1,"id":"1"}');
    expect(answer).toBeInstanceOf(Misread);
    expect((answer as Misread).violations.map(({ field }) => field).sort()).toEqual(["coupon.nam", "update_mask", "x"]);
    expect((answer as Misread).rest).toMatchObject({ coupon: { id: "1" } });
  });
});
