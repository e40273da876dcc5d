import { call } from "./api.js";
import { h } from "./dom.js";
import { money, time } from "./model/format.js";
import type { Usage } from "./model/messages.js";
import { Problem } from "./model/problem.js";
import { cell, notice, table } from "./parts.js";

const pageSize = 50;
/** Rows that are kept on the page at most. */
const maxRows = 1_000;

/** The uses of a coupon, read when somebody asks for them. */
export function usages(couponId: string): HTMLElement {
  const problem = notice();
  const rows = h("tbody");
  const said = h("p", { class: "help", role: "status" });
  const load = h("button", { type: "button", class: "quiet" }, "Show uses");
  const more = h("button", { type: "button", class: "quiet", hidden: true }, "Older ones");
  const box = table("Uses of this coupon, the newest first", columns, rows, "cards");
  box.hidden = true;
  let next = "";
  const read = async (pageToken: string) => {
    load.disabled = true;
    more.disabled = true;
    try {
      type Answer = { usages?: readonly Usage[]; nextPageToken?: string };
      const request = { couponId, pageSize, pageToken, showCancelled: true };
      const page = await call<Answer>("UsageService/ListUsages", request);
      if (!pageToken) rows.replaceChildren();
      rows.append(...(page.usages ?? []).map(rowOf));
      next = page.nextPageToken ?? "";
      more.hidden = !next || rows.childElementCount >= maxRows;
      box.hidden = rows.childElementCount === 0;
      load.textContent = "Read again";
      said.textContent = rows.childElementCount === 0 ? "Nobody has used it yet." : "";
      problem.show(null);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problem.show(error);
    } finally {
      load.disabled = false;
      more.disabled = false;
    }
  };
  load.addEventListener("click", () => void read(""));
  more.addEventListener("click", () => void read(next));
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Uses"),
    problem.element,
    box,
    said,
    h("p", { class: "buttons start" }, load, more),
  );
}

const columns = ["User", "Order", "Product", "Amount", "Discount", "Used", "Cancelled"];

function rowOf(usage: Usage): HTMLElement {
  const { userId = "" } = usage;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, h("a", { href: `#/users/${encodeURIComponent(userId)}` }, userId)),
    cell("Order", usage.orderId || "–"),
    cell("Product", usage.productId || "–"),
    cell("Amount", money(usage.orderAmount), "number"),
    cell("Discount", money(usage.discountAmount), "number"),
    cell("Used", time(usage.useTime), "time"),
    cell("Cancelled", time(usage.cancelTime), "time"),
  );
}
