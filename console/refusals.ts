import { h, setAttribute, setText } from "./dom.js";
import { count, percent } from "./model/format.js";
import { isTrouble, refusalWords } from "./model/problem.js";
import type { ActivityHistory } from "./model/sale.js";

/** Why requests were refused since the page was opened, the commonest first. */
export function refusals(): { readonly element: HTMLElement; show(history: ActivityHistory): void } {
  const list = h("ul", { class: "reasons" });
  const said = h("p", { class: "help" }, "No requests since this page was opened.");
  const rows = new Map<string, { readonly element: HTMLElement; show(amount: number, share: number): void }>();
  return {
    element: h("section", { class: "card" }, h("h2", {}, "Refused, and why"), list, said),
    show: (history) => {
      const all = [...history.totals.values()].reduce((sum, amount) => sum + amount, 0);
      const refused = [...history.totals].filter(([reason]) => reason !== "").sort(([, a], [, b]) => b - a);
      for (const [at, [reason, amount]] of refused.entries()) {
        const row = rows.get(reason) ?? rowOf(reason);
        rows.set(reason, row);
        row.show(amount, amount / all);
        if (list.children[at] !== row.element) list.insertBefore(row.element, list.children[at] ?? null);
      }
      const replicas = history.replicaCount === 1 ? "one replica" : `${history.replicaCount} replicas`;
      const none = all === 0 ? "No requests" : `Of ${count(all)} requests`;
      setText(said, `${none} since this page was opened, as ${replicas} that answered here counted them.`);
    },
  };
}

function rowOf(reason: string) {
  const fill = h("span", { class: "fill" });
  const amount = h("b", { class: "number" });
  const share = h("span", { class: "number" });
  const element = h(
    "li",
    { title: reason },
    h("span", {}, refusalWords(reason)),
    amount,
    share,
    h("span", { class: "bar", "aria-hidden": "true" }, fill),
  );
  setAttribute(element, "data-kind", isTrouble(reason) ? "trouble" : "rule");
  return {
    element,
    show: (value: number, part: number) => {
      setText(amount, count(value));
      setText(share, percent(part));
      fill.style.width = `${part * 100}%`;
    },
  };
}
