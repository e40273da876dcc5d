import { call } from "./api.js";
import { h, type View } from "./dom.js";
import { clock, discount, time } from "./model/format.js";
import { type UserCoupon, withoutPrefix } from "./model/messages.js";
import { Problem } from "./model/problem.js";
import { cell, couponLink, notice, pill, showState, table } from "./parts.js";

const pageSize = 50;
const maxRows = 1_000;

/** What one user holds, and what became of what the user held. Read when asked, and not again by itself. */
export function userView(userId: string, onProblem: (problem: Problem) => void): View {
  const problem = notice();
  const rows = h("tbody");
  const said = h("p", { class: "help", role: "status" });
  const input = h("input", {
    ...{ id: "user", type: "search", maxlength: 128, value: userId, autocomplete: "off", spellcheck: "false" },
  });
  const more = h("button", { type: "button", class: "quiet", hidden: true }, "Next page");
  const box = table("User coupons", columns, rows, "cards");
  box.hidden = true;
  const left = new AbortController();
  let next = "";
  const read = async (pageToken: string) => {
    try {
      type Answer = { userCoupons?: readonly UserCoupon[]; nextPageToken?: string };
      const request = { userId, pageSize, pageToken, showExpired: true };
      const page = await call<Answer>("UserCouponService/ListUserCoupons", request, left.signal);
      rows.append(...(page.userCoupons ?? []).map(rowOf));
      next = page.nextPageToken ?? "";
      more.hidden = !next || rows.childElementCount >= maxRows;
      box.hidden = rows.childElementCount === 0;
      said.textContent =
        rows.childElementCount === 0 ? "This user holds nothing, and has held nothing that is kept." : "";
      problem.show(null);
      showState("begun", `Read at ${clock(new Date())}`);
    } catch (error) {
      if (left.signal.aborted) return;
      if (!(error instanceof Problem)) throw error;
      problem.show(error);
      showState("lost", error.label);
      onProblem(error);
    }
  };
  more.addEventListener("click", () => void read(next));
  const form = h(
    "form",
    { class: "search", role: "search" },
    h("label", { for: "user" }, "User id"),
    input,
    h("button", { type: "submit", class: "quiet" }, "Show"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = input.value;
    if (wanted) window.location.hash = `#/users/${encodeURIComponent(wanted)}`;
  });
  // Nothing is read again by itself, so the page must not go on saying of it what the view before has said.
  showState("begun", userId ? "Connecting" : "Nothing read");
  if (userId) void read("");
  else said.textContent = "Enter the id of a user, exactly as the service was given it.";
  return {
    element: h(
      "section",
      { "aria-labelledby": "title" },
      h("h1", { id: "title" }, userId ? `User ${userId}` : "Users"),
      form,
      problem.element,
      said,
      box,
      h("p", { class: "buttons start" }, more),
    ),
    title: userId ? `User ${userId}` : "Users",
    leave: () => left.abort(),
  };
}

const columns = ["Coupon", "Status", "Discount", "Code", "Uses", "Issued", "Ends"];

function rowOf(held: UserCoupon): HTMLElement {
  const status = pill();
  status.show(withoutPrefix(held.status, "USER_COUPON_STATUS_"));
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, couponLink(held.couponId ?? "", held.coupon?.name ?? "")),
    cell("Status", status.element),
    cell("Discount", discount(held.coupon?.discount)),
    cell("Code", held.code || "–"),
    cell("Uses", `${held.useCount ?? 0} of ${held.maxUses ?? 1}`, "number"),
    cell("Issued", time(held.issueTime), "time"),
    cell("Ends", time(held.expireTime), "time"),
  );
}
