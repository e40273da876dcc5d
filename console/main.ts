import { key } from "./api.js";
import { couponView } from "./coupon-view.js";
import { askForKey } from "./dialogs.js";
import { byId, setAttribute, setText, type View } from "./dom.js";
import { listView } from "./list-view.js";
import { zone } from "./model/format.js";
import type { Problem } from "./model/problem.js";
import { startTheme } from "./theme.js";
import { userView } from "./user-view.js";

let view: View | undefined;

/** What is wrong with a key is one and the same for all views: it is asked for, and the view begins anew. */
function onProblem(problem: Problem): void {
  if (!problem.needsKey || document.querySelector("dialog")) return;
  byId("key").hidden = false;
  const why = key() ? "The service does not know this key, or it has ended." : "The service asks who calls.";
  void askForKey(why).then((isChanged) => isChanged && show(false));
}

/** The part after # says what is shown, so that a link opens one coupon. */
function viewOf(hash: string): View {
  const [path = "", search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [page, id] = path.split("/", 2);
  const name = decoded(id ?? "");
  if (page === "coupons" && name) return couponView(name, onProblem);
  if (page === "users") return userView(name, onProblem);
  return listView(new URLSearchParams(search).get("q") ?? "", onProblem);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show(moveFocus: boolean): void {
  view?.leave();
  view = viewOf(window.location.hash);
  const main = byId("main");
  main.replaceChildren(view.element);
  document.title = `${view.title} · Coupon console`;
  const page = /^#\/users/.test(window.location.hash) ? "users" : "coupons";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("data-page") === page) setAttribute(link, "aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
  if (moveFocus) main.focus({ preventScroll: true });
}

startTheme(byId("theme"));
setText(byId("zone"), `Times are in ${zone(new Date())}.`);
byId("key").hidden = key() === "";
byId("key").addEventListener("click", () => {
  void askForKey("Every call of this page is made with this key.").then((isChanged) => {
    byId("key").hidden = key() === "";
    if (isChanged) show(false);
  });
});
window.addEventListener("hashchange", () => show(true));
show(false);
