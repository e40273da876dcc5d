import { call } from "./api.js";
import { h, setText } from "./dom.js";
import { count, time } from "./model/format.js";
import { numberOf, type Stats } from "./model/messages.js";
import { Problem } from "./model/problem.js";
import { notice } from "./parts.js";

const names: readonly (readonly [string, string])[] = [
  ["usedCount", "Uses made"],
  ["cancelledCount", "Uses cancelled"],
  ["deletedCount", "Deleted"],
  ["releasedCount", "Released"],
  ["expiredCount", "Expired"],
  ["revokedCount", "Revoked"],
  ["codeCount", "Codes"],
];

/** All that was counted of a coupon since it was created. */
export function counts(): {
  readonly element: HTMLElement;
  read(couponId: string, signal: AbortSignal): Promise<boolean>;
} {
  const problem = notice();
  const values = names.map(() => h("dd", {}, "–"));
  const list = h(
    "dl",
    { class: "figures small" },
    ...names.map(([, name], at) => h("div", {}, h("dt", {}, name), values[at])),
  );
  const said = h("p", { class: "help" });
  let shown = "";
  return {
    element: h("section", { class: "card" }, h("h2", {}, "Since it was created"), problem.element, list, said),
    read: async (couponId, signal) => {
      try {
        type Answer = { stats?: Stats; readTime?: string };
        const { stats = {}, readTime } = await call<Answer>("CatalogService/GetStats", { couponId }, signal);
        for (const [at, [field]] of names.entries()) setText(values[at] as Element, count(numberOf(stats[field])));
        setText(said, `As of ${time(readTime)}.`);
        problem.show(null);
        const before = shown;
        shown = JSON.stringify(stats);
        return before !== shown;
      } catch (error) {
        // A key that may not read the counts may well read the coupon.
        if (!(error instanceof Problem && error.reason === "PERMISSION_DENIED")) throw error;
        problem.show(error);
        return false;
      }
    },
  };
}
