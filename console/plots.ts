import { h, setText } from "./dom.js";
import { color, onThemeChange } from "./theme.js";

export interface Series {
  readonly label: string;
  /** The name of a colour of the style sheet. */
  readonly color: string;
  /** Not by colour alone. */
  readonly dash?: readonly number[];
  readonly fill?: boolean;
}

export interface Plot {
  readonly element: HTMLElement;
  /** `values` has one list for each series. `words` says the same to those who do not see it. */
  show(timesS: readonly number[], values: readonly (readonly (number | null)[])[], words: string): void;
  leave(): void;
}

const heightPx = 150;
/** Half of "12:34:56": the newest time is written in the middle under the right edge. */
const halfClockPx = 28;
/** A plot shows this much at least: a sale begins at its right end. */
const leastSpanS = 60;

/** A line for each series over the time, drawn by uPlot, which lies beside this page as a script. */
export function plot(title: string, series: readonly Series[], format: (value: number) => string): Plot {
  const area = h("div", { class: "area", "aria-hidden": "true" });
  const words = h("p", { class: "unseen" });
  const values = series.map(() => h("b"));
  const legend = h(
    "ul",
    { class: "legend" },
    ...series.map(({ label, color: name, dash }, at) =>
      h("li", { "data-color": name, "data-dash": dash ? true : undefined }, label, " ", values[at]),
    ),
  );
  const element = h("figure", { class: "plot" }, h("figcaption", {}, h("span", {}, title), legend), area, words);
  let data: uPlot.AlignedData = [[], ...series.map(() => [])];
  let chart: uPlot | undefined;
  const draw = () => {
    chart?.destroy();
    chart = new uPlot(optionsOf(series, format, area.clientWidth), data, area);
  };
  const resized = new ResizeObserver(() => {
    if (!chart) draw();
    else if (area.clientWidth > 0) chart.setSize({ width: area.clientWidth, height: heightPx });
  });
  resized.observe(area);
  const stopListening = onThemeChange(draw);
  return {
    element,
    show: (timesS, lines, summary) => {
      data = [[...timesS], ...lines.map((line) => [...line])];
      chart?.setData(data);
      setText(words, summary);
      for (const [at, line] of lines.entries()) {
        const last = line.at(-1);
        setText(values[at] as Element, last === null || last === undefined ? "–" : format(last));
      }
    },
    leave: () => {
      resized.disconnect();
      stopListening();
      chart?.destroy();
    },
  };
}

function optionsOf(series: readonly Series[], format: (value: number) => string, width: number): uPlot.Options {
  const axis = {
    ...{ stroke: color("ink-soft"), font: "11px system-ui, sans-serif", ticks: { show: false } },
    grid: { stroke: color("line"), width: 1 },
  };
  return {
    ...{ width: Math.max(width, 100), height: heightPx },
    ...{ legend: { show: false }, cursor: { show: false }, padding: [8, halfClockPx, 0, 0] },
    scales: {
      x: {
        time: true,
        range: (_, least, most) => {
          const end = most || nowS();
          return [Math.min(least || end, end - leastSpanS), end];
        },
      },
      y: { range: (_, __, most) => [0, Math.max((most ?? 0) * 1.08, 1)] },
    },
    axes: [
      { ...axis, size: 26, space: 70, values: (_, ticks) => ticks.map(clock) },
      { ...axis, size: 56, space: 32, values: (_, ticks) => ticks.map(format) },
    ],
    series: [
      {},
      ...series.map((one) => ({
        ...{ label: one.label, stroke: color(one.color), width: 2, points: { show: false }, spanGaps: true },
        ...(one.dash && { dash: [...one.dash] }),
        ...(one.fill && { fill: color(`${one.color}-soft`) }),
      })),
    ],
  };
}

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const clock = (atS: number): string => clockFormat.format(atS * 1_000);
/** Where there is no data yet, as far as it will reach. */
const nowS = (): number => Date.now() / 1_000;
