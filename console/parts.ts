import { byId, h, setAttribute, setText } from "./dom.js";
import { count, percent } from "./model/format.js";
import { type Coupon, numberOf, withoutPrefix } from "./model/messages.js";
import { type Problem, sentence } from "./model/problem.js";

export const stateOf = (coupon: Coupon): string => withoutPrefix(coupon.state, "COUPON_STATE_");

/** A word with a colour, for those who see colours. */
export function pill(): { readonly element: HTMLElement; show(state: string): void } {
  const element = h("span", { class: "pill" });
  return {
    element,
    show: (state) => {
      setText(element, sentence(state || "UNKNOWN"));
      setAttribute(element, "data-state", state);
    },
  };
}

/** How much of the stock is left; empty where there is no limit. */
export function stockBar(): { readonly element: HTMLElement; show(coupon: Coupon): void } {
  const fill = h("span", { class: "fill" });
  const element = h("span", { class: "bar", "aria-hidden": "true" }, fill);
  return {
    element,
    show: (coupon) => {
      const share = shareLeft(coupon);
      element.hidden = share === null;
      fill.style.width = `${(share ?? 0) * 100}%`;
      setAttribute(element, "data-level", share !== null && share < 0.1 ? "low" : "enough");
    },
  };
}

/** Of the quantity; null: without limit. */
export function shareLeft({ quantity, remainingCount }: Coupon): number | null {
  if (quantity === undefined || remainingCount === undefined) return null;
  const all = numberOf(quantity);
  return all === 0 ? 0 : numberOf(remainingCount) / all;
}

export function stockWords(coupon: Coupon): string {
  const share = shareLeft(coupon);
  if (share === null) return "no limit";
  return `${count(numberOf(coupon.remainingCount))} of ${count(numberOf(coupon.quantity))} (${percent(share)})`;
}

/** At the top of the page: how what it shows stands. */
export function showState(state: "begun" | "live" | "lost", words: string): void {
  setAttribute(byId("link"), "data-state", state);
  setText(byId("link-text"), words);
}

/** Where a view says what went wrong, and what to do. */
export function notice(): { readonly element: HTMLElement; show(problem: Problem | null): void } {
  const element = h("p", { class: "notice", role: "alert", hidden: true });
  return {
    element,
    show: (problem) => {
      element.hidden = problem === null;
      setText(element, problem?.words ?? "");
      setAttribute(element, "data-kind", problem?.isAway ? "away" : "wrong");
    },
  };
}

/** A table that scrolls within itself where it is too wide, and that keys can scroll. */
export function table(caption: string, columns: readonly string[], rows: HTMLElement, kind = ""): HTMLElement {
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      { class: kind },
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, ...columns.map((name) => h("th", { scope: "col" }, name)))),
      rows,
    ),
  );
}

/** A cell; on a phone, where a row is a card, its column's name stands before it. */
export function cell(column: string, content: Node | string, kind = ""): HTMLElement {
  return h("td", { "data-label": column, class: kind }, content);
}

export function couponLink(id: string, name: string): HTMLElement {
  return h("a", { href: `#/coupons/${id}` }, name || "(no name)");
}
