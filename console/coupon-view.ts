import { call } from "./api.js";
import { codeJobs } from "./code-jobs.js";
import { counts } from "./counts.js";
import { pauseOrResume } from "./dialogs.js";
import { announce, h, setAttribute, setText, type View } from "./dom.js";
import { facts } from "./facts.js";
import { count, milliseconds, percent, rate, span } from "./model/format.js";
import { type Activity, type Coupon, numberOf } from "./model/messages.js";
import { type Problem, sentence } from "./model/problem.js";
import { ActivityHistory, StockHistory, soldOutInS } from "./model/sale.js";
import { notice, pill, shareLeft, stateOf, stockBar } from "./parts.js";
import { plot } from "./plots.js";
import { Poller } from "./poller.js";
import { refusals } from "./refusals.js";
import { usages } from "./usages.js";

const couponEveryMs = 2_200;
const activityEveryMs = 3_300;
const statsEveryMs = 22_000;
const jobsEveryMs = 11_000;

/** One coupon while it is sold. */
export function couponView(couponId: string, onProblem: (problem: Problem) => void): View {
  const head = heading(couponId);
  const hero = stockCard();
  const figures = figureRow([
    "Issued per second",
    "Refused per second",
    "Median answer",
    "99 % answered in",
    "Issued",
    "Used",
  ]);
  const [issuedRate, refusedRate, half, most, issued, used] = figures.values;
  const problem = notice();
  // What is missing beside the coupon itself is said where it is missing.
  const activityProblem = notice();
  const why = refusals();
  const known = facts();
  const stats = counts();
  const jobs = codeJobs();
  const stock = plot("Stock left", [{ label: "left", color: "stock", fill: true }], count);
  const rates = plot(
    "Per second",
    [
      { label: "issued", color: "good" },
      { label: "refused", color: "bad", dash: [5, 4] },
    ],
    rate,
  );
  const latency = plot(
    "Answer time",
    [
      { label: "median", color: "stock" },
      { label: "99 %", color: "warn", dash: [5, 4] },
    ],
    milliseconds,
  );
  const stockHistory = new StockHistory();
  const activityHistory = new ActivityHistory();
  let coupon: Coupon | undefined;
  let state = "";

  const readCoupon = async (signal: AbortSignal): Promise<boolean> => {
    const answer = await call<{ coupon: Coupon }>("CatalogService/GetCoupon", { couponId }, signal);
    coupon = answer.coupon;
    const isNew = stockHistory.add(Date.now() / 1_000, coupon);
    const now = stateOf(coupon);
    if (state && state !== now) announce(`${coupon.name ?? "The coupon"}: ${sentence(now)}.`);
    const isOther = state !== now;
    state = now;
    document.title = `${coupon.name || "(no name)"} · Coupon console`;
    head.show(coupon);
    hero.show(coupon, stockHistory.rate);
    known.show(coupon);
    setText(issued, count(numberOf(coupon.issuedCount)));
    setText(used, count(numberOf(coupon.usedCount)));
    setText(issuedRate, rate(stockHistory.rate));
    showStock();
    showRates();
    if (coupon.codeBook && jobs.element.hidden) {
      jobs.element.hidden = false;
      poller.add({ everyMs: jobsEveryMs, run: (one) => jobs.read(couponId, one) });
    }
    return isNew || isOther;
  };
  const readActivity = async (signal: AbortSignal): Promise<boolean> => {
    const activity = await read<Activity>(
      "CatalogService/GetCouponActivity",
      { couponId },
      signal,
      activityProblem.show,
    );
    if (!activity) return false;
    const isNew = activityHistory.add(Date.now() / 1_000, activity);
    const { points } = activityHistory;
    const last = points.at(-1);
    setText(refusedRate, rate(last?.refusedRate ?? null));
    setText(half, milliseconds(last?.p50 ?? null));
    setText(most, milliseconds(last?.p99 ?? null));
    why.show(activityHistory);
    const times = points.map(({ atS }) => atS);
    const lines = [points.map(({ p50 }) => p50), points.map(({ p99 }) => p99)];
    latency.show(times, lines, `Half of the answers came within ${milliseconds(last?.p50 ?? null)}.`);
    showRates();
    return isNew;
  };
  const readStats = async (signal: AbortSignal) => stats.read(couponId, signal);

  const showStock = () => {
    const { points } = stockHistory;
    stock.element.hidden = points.at(-1)?.left === null;
    const left = points.at(-1)?.left ?? 0;
    stock.show(
      points.map(({ atS }) => atS),
      [points.map((point) => point.left)],
      `${count(left)} are left.`,
    );
  };
  /** Both lines have the times of the issues; a refusal rate holds until there is a newer one. */
  const showRates = () => {
    const { points } = stockHistory;
    const refused = points.map(
      ({ atS }) => activityHistory.points.findLast((one) => one.atS <= atS)?.refusedRate ?? null,
    );
    rates.show(
      points.map(({ atS }) => atS),
      [points.map((point) => point.rate), refused],
      `${rate(stockHistory.rate)} are issued in a second, and ${rate(refused.at(-1) ?? null)} requests refused.`,
    );
  };

  const poller = new Poller(
    [
      { everyMs: couponEveryMs, run: readCoupon },
      { everyMs: activityEveryMs, run: readActivity },
      { everyMs: statsEveryMs, run: readStats },
    ],
    (found) => {
      problem.show(found);
      setAttribute(element, "data-stale", String(found !== null));
      if (found && !coupon) setText(head.title, "Coupon");
      setAttribute(element, "data-known", String(coupon !== undefined));
      if (found) onProblem(found);
    },
  );
  head.button.addEventListener("click", async () => {
    if (coupon && (await pauseOrResume(coupon, stateOf(coupon) === "PAUSED"))) poller.hurry();
  });
  const element = h(
    "section",
    { "aria-labelledby": "title", class: "coupon" },
    head.element,
    problem.element,
    h("div", { class: "overview" }, hero.element, figures.element),
    activityProblem.element,
    h("div", { class: "plots" }, stock.element, rates.element, latency.element),
    h("div", { class: "columns" }, why.element, known.element),
    stats.element,
    jobs.element,
    usages(couponId),
  );
  return {
    element,
    title: "Coupon",
    leave: () => {
      poller.stop();
      for (const one of [stock, rates, latency]) one.leave();
    },
  };
}

/** Of a part that a key may not read the rest of the page goes on: undefined, and the part says why. */
async function read<T>(
  method: string,
  request: object,
  signal: AbortSignal,
  show: (problem: Problem | null) => void,
): Promise<T | undefined> {
  try {
    const answer = await call<T>(method, request, signal);
    show(null);
    return answer;
  } catch (error) {
    const isPartial = error instanceof Error && "reason" in error && partial.has(String(error.reason));
    if (!isPartial) throw error;
    show(error as Problem);
    return undefined;
  }
}

/** A replica of the release before does not have the method, and a key may lack its scope. */
const partial = new Set(["PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND", "HTTP 404"]);

function heading(couponId: string) {
  const title = h("h1", { id: "title" }, "…");
  const state = pill();
  const sub = h("p", { class: "sub" });
  const button = h("button", { type: "button", class: "bad", hidden: true }, "Pause");
  const element = h(
    "header",
    { class: "head" },
    h(
      "div",
      {},
      h("p", { class: "crumb" }, h("a", { href: "#/" }, "Coupons")),
      h("div", { class: "name" }, title, state.element),
      sub,
    ),
    button,
  );
  return {
    element,
    button,
    title,
    show: (coupon: Coupon) => {
      const now = stateOf(coupon);
      setText(title, coupon.name || "(no name)");
      setText(sub, [coupon.category, couponId].filter(Boolean).join(" · "));
      state.show(now);
      const isPaused = now === "PAUSED";
      // What has ended or is deleted is issued to nobody any more.
      button.hidden = ["ENDED", "DELETED", "EXHAUSTED"].includes(now);
      setText(button, isPaused ? "Resume…" : "Pause…");
      setAttribute(button, "class", isPaused ? "good" : "bad");
    },
  };
}

function stockCard() {
  const left = h("strong", { class: "left" }, "…");
  const of = h("span", { class: "of" });
  const forecast = h("p", { class: "forecast" });
  const bar = stockBar();
  return {
    element: h(
      "div",
      { class: "hero" },
      h("p", { class: "label" }, "Left"),
      h("p", { class: "big" }, left, " ", of),
      bar.element,
      forecast,
    ),
    show: (coupon: Coupon, issueRate: number | null) => {
      const share = shareLeft(coupon);
      setText(left, share === null ? "∞" : count(numberOf(coupon.remainingCount)));
      setText(of, share === null ? "no limit" : `of ${count(numberOf(coupon.quantity))} · ${percent(share)}`);
      bar.show(coupon);
      setText(forecast, forecastOf(coupon, issueRate));
    },
  };
}

function forecastOf(coupon: Coupon, issueRate: number | null): string {
  const state = stateOf(coupon);
  if (state === "SOLD_OUT") return "Everything is sold.";
  if (state === "PAUSED") return "Paused: nobody is issued it.";
  if (state === "SCHEDULED" && coupon.startTime)
    return `Begins in about ${span((Date.parse(coupon.startTime) - Date.now()) / 1_000)}.`;
  if (state !== "ACTIVE") return `${sentence(state)}.`;
  if (coupon.remainingCount === undefined) return "It cannot sell out.";
  const goneInS = soldOutInS(numberOf(coupon.remainingCount), issueRate);
  if (goneInS === null) return issueRate === null ? "Measuring the rate…" : "Nothing is being issued at the moment.";
  return `Sold out in about ${span(goneInS)} at this rate.`;
}

function figureRow<const N extends readonly string[]>(names: N) {
  const values = names.map(() => h("dd", {}, "–"));
  const element = h(
    "dl",
    { class: "figures" },
    ...names.map((name, at) => h("div", {}, h("dt", {}, name), values[at])),
  );
  return { element, values: values as { [K in keyof N]: HTMLElement } };
}
