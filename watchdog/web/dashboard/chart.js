// Lines over the last hour. uPlot draws; what they say stands in words beside them, for those who do not see them.

import UPlot from "./vendor/uPlot.js";
import { el, say } from "./elements.js";

const HEIGHT = 190;

const clock = (at, seconds) =>
  new Date(at * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}) });

/**
 * A custom property of the page as a colour that a canvas takes: of light and dark, the one that is in force.
 *
 * @param {string} name
 */
function colour(name) {
  const probe = el("span", { hidden: true });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/**
 * @param {string} title
 * @param {{name: string, colour: string, dash?: number[], width?: number, fill?: boolean}[]} lines
 * @param {(value: number) => string} words
 */
export function chart(title, lines, words) {
  const values = lines.map(() => el("b", {}, "–"));
  const legend = el(
    "ul.legend",
    {},
    lines.map((line, at) => el("li", {}, el(`span.line.is-${line.name.replace(/\W/g, "-")}`, { "aria-hidden": "true" }), `${line.name} `, values[at])),
  );
  const canvas = el("div.canvas", { role: "img", "aria-label": title });
  const when = el("span.when");
  const figure = el("figure.chart", {}, el("figcaption", {}, el("h2", {}, title), when, legend), canvas);
  let plot = null;
  let data = [[], ...lines.map(() => [])];

  function show(at) {
    const index = at ?? data[0].length - 1;
    lines.forEach((_, line) => {
      const value = data[line + 1][index];
      say(values[line], value === null || value === undefined ? "–" : words(value));
    });
    const instant = data[0][index];
    say(when, at === null || at === undefined || !instant ? "now" : new Date(instant * 1000).toLocaleTimeString("en-GB"));
  }

  function draw() {
    plot?.destroy();
    const axis = {
      stroke: colour("--muted"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { stroke: colour("--line"), width: 1, size: 4 },
      font: "12px system-ui, sans-serif",
    };
    plot = new UPlot(
      {
        width: Math.max(200, canvas.clientWidth),
        height: HEIGHT,
        padding: [10, 28, 0, 0], // half of a time, at the end of the axis
        legend: { show: false },
        cursor: { y: false, points: { size: 6 } },
        scales: { y: { range: (_, least, most) => [0, Math.max(1, most * 1.1 || 1)] } },
        axes: [
          { ...axis, space: 80, size: 28, values: (_, at, __, ___, step) => at.map((each) => clock(each, step < 60)) },
          { ...axis, size: 48, space: 34, incrs: [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5] },
        ],
        series: [
          {},
          ...lines.map((line) => ({
            label: line.name,
            stroke: colour(line.colour),
            dash: line.dash,
            width: line.width ?? 2,
            points: { show: false },
          })),
        ],
        hooks: { setCursor: [(drawn) => show(drawn.cursor.idx)] },
      },
      data,
      canvas,
    );
    show(null);
  }

  const resized = new ResizeObserver(() => plot?.setSize({ width: Math.max(200, canvas.clientWidth), height: HEIGHT }));
  resized.observe(canvas);

  return {
    figure,
    /** @param {number[][]} columns Seconds since 1970, then a column for each line. */
    update(columns) {
      data = columns;
      if (plot === null) draw();
      else {
        plot.setData(data);
        if (plot.cursor.idx === null || plot.cursor.idx === undefined) show(null);
      }
      const last = data[0].length - 1;
      const told = lines.map((line, at) => `${line.name} ${data[at + 1][last] ?? "unknown"}`).join(", ");
      canvas.setAttribute("aria-label", `${title}, over the last hour. Now: ${told}.`);
    },
    redraw: () => plot && draw(),
    end() {
      resized.disconnect();
      plot?.destroy();
      plot = null;
    },
  };
}
