import { call } from "./api.js";
import { h, setText } from "./dom.js";
import { count, rate, span, time } from "./model/format.js";
import { type CodeJob, withoutPrefix } from "./model/messages.js";
import { Problem, sentence } from "./model/problem.js";
import { soldOutInS } from "./model/sale.js";
import { notice, pill } from "./parts.js";

const shownJobs = 5;

/** The jobs that generate codes, the newest first, and how fast those that run get on. */
export function codeJobs(): {
  readonly element: HTMLElement;
  read(couponId: string, signal: AbortSignal): Promise<boolean>;
} {
  const problem = notice();
  const list = h("ul", { class: "jobs" });
  const said = h("p", { class: "help" });
  const rows = new Map<string, ReturnType<typeof rowOf>>();
  const element = h(
    "section",
    { class: "card", hidden: true },
    h("h2", {}, "Codes being generated"),
    problem.element,
    list,
    said,
  );
  return {
    element,
    read: async (couponId, signal) => {
      try {
        type Answer = { jobs?: readonly CodeJob[] };
        const { jobs = [] } = await call<Answer>(
          "CatalogService/ListCodeJobs",
          { couponId, pageSize: shownJobs },
          signal,
        );
        let isNew = false;
        for (const [at, job] of jobs.entries()) {
          const row = rows.get(job.id) ?? rowOf(job);
          rows.set(job.id, row);
          isNew = row.show(job, Date.now() / 1_000) || isNew;
          if (list.children[at] !== row.element) list.insertBefore(row.element, list.children[at] ?? null);
        }
        setText(said, jobs.length === 0 ? "No codes were generated for this coupon." : "");
        problem.show(null);
        return isNew;
      } catch (error) {
        if (!(error instanceof Problem && error.reason === "PERMISSION_DENIED")) throw error;
        problem.show(error);
        return false;
      }
    },
  };
}

function rowOf({ id, pattern }: CodeJob) {
  const state = pill();
  const progress = h("progress", { "aria-label": `Progress of ${pattern ?? "the job"}`, max: 1, value: 0 });
  const words = h("span", { class: "number" });
  const element = h("li", {}, h("code", { title: id }, pattern ?? ""), state.element, progress, words);
  let before: { readonly atS: number; readonly made: number } | undefined;
  return {
    element,
    show: (job: CodeJob, atS: number): boolean => {
      const { count: all = 0, madeCount: made = 0 } = job;
      const name = withoutPrefix(job.state, "CODE_JOB_STATE_");
      const perS = before && atS > before.atS ? (made - before.made) / (atS - before.atS) : null;
      const isNew = before?.made !== made;
      before = { atS, made };
      state.show(name);
      progress.max = Math.max(1, all);
      progress.value = made;
      const leftS = soldOutInS(all - made, perS);
      const ending =
        name !== "RUNNING"
          ? job.failure || (job.endTime ? `ended ${time(job.endTime)}` : sentence(name))
          : perS === null
            ? "measuring the rate"
            : `${rate(perS)} in a second${leftS === null ? "" : `, about ${span(leftS)} to go`}`;
      setText(words, `${count(made)} of ${count(all)} · ${ending}`);
      return isNew;
    },
  };
}
