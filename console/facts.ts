import { h, setText } from "./dom.js";
import { count, discount, span, time } from "./model/format.js";
import { type Coupon, numberOf, withoutPrefix } from "./model/messages.js";
import { sentence } from "./model/problem.js";
import { secondsOf } from "./model/sale.js";

/** What the coupon is, as its merchant has defined it. */
export function facts(): { readonly element: HTMLElement; show(coupon: Coupon): void } {
  const list = h("dl", { class: "facts" });
  const about = h("p", { class: "about" });
  const values = new Map<string, HTMLElement>();
  return {
    element: h("section", { class: "card" }, h("h2", {}, "The coupon"), about, list),
    show: (coupon) => {
      setText(about, coupon.description ?? "");
      about.hidden = !coupon.description;
      for (const [name, text] of factsOf(coupon)) {
        let value = values.get(name);
        if (!value) {
          value = h("dd");
          values.set(name, value);
          list.append(h("div", {}, h("dt", {}, name), value));
        }
        setText(value, text);
        (value.parentElement as HTMLElement).hidden = text === "";
      }
    },
  };
}

function factsOf(coupon: Coupon): [string, string][] {
  const { throttle, quota, validityAfterIssue, claimWindow, usageCap } = coupon;
  return [
    ["Discount", discount(coupon.discount)],
    ["Type", sentence(withoutPrefix(coupon.type, "COUPON_TYPE_").replace(/^UNSPECIFIED$/, ""))],
    ["Begins", time(coupon.startTime)],
    ["Ends", time(coupon.expireTime)],
    ["Valid after issue", validityAfterIssue ? span(secondsOf(validityAfterIssue)) : ""],
    ["For each user", count(coupon.maxPerUser ?? 1)],
    ["Uses of each", count(coupon.maxUses ?? 1)],
    ["Usage cap", usageCap ? count(numberOf(usageCap)) : ""],
    ["Claim window", claimWindow ? span(secondsOf(claimWindow)) : ""],
    [
      "Throttle",
      throttle
        ? `${throttle.maxPerSecond} in a second, ${throttle.maxConcurrent} at once, waits up to ${span(secondsOf(throttle.maxWait ?? "0s"))}`
        : "",
    ],
    ["Quota", quota ? `${quota.maxPerDay} in a day of ${quota.group}` : ""],
    ["Code book", coupon.codeBook ? "yes" : ""],
  ];
}
