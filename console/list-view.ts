import { call } from "./api.js";
import { h, setAttribute, setText, type View } from "./dom.js";
import { count, discount, time } from "./model/format.js";
import { type Coupon, type CouponPage, numberOf } from "./model/messages.js";
import type { Problem } from "./model/problem.js";
import { cell, couponLink, notice, pill, stateOf, stockBar, stockWords, table } from "./parts.js";
import { Poller } from "./poller.js";

const pageSize = 50;
const refreshMs = 4_400;
/** After the last key, before a search begins. */
const typingMs = 250;

/** All coupons, the newest first, or those that a search finds. */
export function listView(query: string, onProblem: (problem: Problem) => void): View {
  const problem = notice();
  const rows = new Rows();
  const said = h("p", { class: "help", role: "status" });
  const input = h("input", {
    ...{ id: "search", type: "search", maxlength: 200, value: query, autocomplete: "off" },
    placeholder: "Name, description or category",
  });
  const ended = h("input", { type: "checkbox", id: "ended" });
  const more = h("button", { type: "button", class: "quiet", hidden: true }, "Next page");
  const first = h("button", { type: "button", class: "quiet", hidden: true }, "First page");
  let pageToken = "";
  let nextToken = "";
  let asked = 0;

  const read = async (signal: AbortSignal): Promise<boolean> => {
    const ask = asked;
    const text = input.value.trim();
    const request = { pageSize, pageToken, ...(text ? { query: text, showEnded: ended.checked } : {}) };
    const method = text ? "CatalogService/SearchCoupons" : "CatalogService/ListCoupons";
    const page = await call<CouponPage>(method, request, signal);
    // Something else has been asked for meanwhile.
    if (ask !== asked) return true;
    const coupons = page.coupons ?? [];
    nextToken = page.nextPageToken ?? "";
    more.hidden = !nextToken;
    first.hidden = !pageToken;
    setText(said, wordsFor(text, page, coupons.length));
    return rows.show(coupons);
  };
  const poller = new Poller([{ everyMs: refreshMs, run: read }], (found) => {
    problem.show(found);
    if (found) onProblem(found);
  });

  const again = (token: string) => {
    asked += 1;
    pageToken = token;
    poller.hurry();
  };
  let typing: number | undefined;
  const search = () => {
    window.clearTimeout(typing);
    typing = window.setTimeout(() => {
      const text = input.value.trim();
      endedLabel.hidden = !text;
      // In place: Back leads to the page before, and not through the letters of a word.
      history.replaceState(null, "", text ? `#/?q=${encodeURIComponent(text)}` : "#/");
      again("");
    }, typingMs);
  };
  const endedLabel = h("label", { class: "check", for: "ended", hidden: !query }, ended, "ended ones, too");
  input.addEventListener("input", search);
  ended.addEventListener("change", () => again(""));
  more.addEventListener("click", () => again(nextToken));
  first.addEventListener("click", () => again(""));

  const element = h(
    "section",
    { "aria-labelledby": "title" },
    h("h1", { id: "title" }, "Coupons"),
    h("search", { class: "search" }, h("label", { for: "search" }, "Search coupons"), input, endedLabel),
    problem.element,
    said,
    table("Coupons", columns, rows.element, "cards"),
    h("p", { class: "buttons start" }, first, more),
  );
  return {
    element,
    title: "Coupons",
    leave: () => {
      window.clearTimeout(typing);
      poller.stop();
    },
  };
}

const columns = ["Coupon", "State", "Left", "Issued", "Discount", "Begins", "Ends"];

function wordsFor(text: string, page: CouponPage, found: number): string {
  if (page.correctedQuery) return `Nothing has “${text}”; these have “${page.correctedQuery}”.`;
  if (found > 0) return "";
  return text ? `Nothing has “${text}” in its name, description or category.` : "There are no coupons yet.";
}

interface Row {
  readonly element: HTMLElement;
  show(coupon: Coupon): void;
}

/** A row for each coupon, which stays while the coupon is on the page: so do the focus and a selection. */
class Rows {
  readonly element = h("tbody");
  private readonly rows = new Map<string, Row>();
  private shown = "";

  /** Answers whether anything has changed. */
  show(coupons: readonly Coupon[]): boolean {
    for (const [id, row] of this.rows) {
      if (coupons.some((coupon) => coupon.id === id)) continue;
      row.element.remove();
      this.rows.delete(id);
    }
    for (const [at, coupon] of coupons.entries()) {
      const row = this.rows.get(coupon.id) ?? rowOf(coupon);
      this.rows.set(coupon.id, row);
      row.show(coupon);
      const there = this.element.children[at];
      if (there !== row.element) this.element.insertBefore(row.element, there ?? null);
    }
    const shown = JSON.stringify(coupons);
    const isNew = shown !== this.shown;
    this.shown = shown;
    return isNew;
  }
}

function rowOf({ id }: Coupon): Row {
  const link = couponLink(id, "");
  const category = h("span", { class: "sub" });
  const state = pill();
  const bar = stockBar();
  const left = h("span");
  const [issued, worth, begins, ends] = [h("span"), h("span"), h("span"), h("span")];
  const element = h(
    "tr",
    {},
    h("th", { scope: "row" }, link, category),
    cell("State", state.element),
    cell("Left", h("span", { class: "stock" }, left, bar.element), "wide"),
    cell("Issued", issued, "number"),
    cell("Discount", worth),
    cell("Begins", begins, "time begins"),
    cell("Ends", ends, "time"),
  );
  return {
    element,
    show: (coupon) => {
      setText(link, coupon.name || "(no name)");
      setText(category, coupon.category ?? "");
      state.show(stateOf(coupon));
      bar.show(coupon);
      setText(left, stockWords(coupon));
      setText(issued, count(numberOf(coupon.issuedCount)));
      setText(worth, discount(coupon.discount));
      setText(begins, time(coupon.startTime));
      setText(ends, time(coupon.expireTime));
      setAttribute(element, "data-state", stateOf(coupon));
    },
  };
}
