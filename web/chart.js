// A small line chart in SVG: a few series over the last minutes.

import { el, svg } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 100;

/** The next of 1, 2, 5 times a power of ten. */
function niceCeiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value * 0.999) * power;
}

export class Chart {
  /**
   * @param {string} title  @param {string} unit  @param {Array<string>} names  of the series
   * @param {(value: number) => string} format
   */
  constructor(title, unit, names, format) {
    Object.assign(this, { title, names, format });
    this.top = el("span", { class: "unit" });
    this.unit = unit;
    this.areas = names.map((_, i) => svg("path", { class: `area s${i + 1}` }));
    this.lines = names.map((_, i) => svg("path", { class: `line s${i + 1}` }));
    this.values = names.map(() => el("b", {}, "–"));
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }),
      svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: 0, y2: 0 }), ...this.areas, ...this.lines);
    this.element = el("figure", { class: "chart" },
      el("figcaption", {}, title, this.top), this.drawing,
      el("ul", { class: "legend" }, ...names.map((name, i) =>
        el("li", {}, el("span", { class: `swatch s${i + 1}` }), `${name} `, this.values[i]))));
  }

  /**
   * @param {Array<number>} times  rising
   * @param {Array<Array<?number>>} series  a value per time; null leaves a gap
   * @param {number} span  of the time axis, which ends at the last time
   */
  update(times, series, span) {
    const highest = Math.max(0, ...series.flat().filter((value) => value !== null));
    const top = niceCeiling(highest);
    const scale = `${this.format(top)}${this.unit ? ` ${this.unit}` : ""}`;
    this.top.textContent = highest > 0 ? scale : ""; // what is empty, or 0 all along, has no scale
    const end = times[times.length - 1] ?? 0;
    const x = (time) => (WIDTH * (1 - (end - time) / span)).toFixed(2);
    const y = (value) => (HEIGHT * (1 - value / top)).toFixed(2);
    series.forEach((values, i) => {
      const runs = [];
      values.forEach((value, k) => {
        if (value === null) return;
        if (k === 0 || values[k - 1] === null) runs.push([]);
        runs[runs.length - 1].push(`${x(times[k])},${y(value)}`);
      });
      // A lone point is drawn as a short stroke.
      const drawn = runs.map((run) => (run.length === 1 ? [run[0], `${parseFloat(run[0]) + 0.8},${run[0].split(",")[1]}`] : run));
      this.lines[i].setAttribute("d", drawn.map((run) => `M${run.join("L")}`).join(""));
      this.areas[i].setAttribute("d", drawn.map((run) => `M${run[0].split(",")[0]},${HEIGHT}L${run.join("L")}L${run[run.length - 1].split(",")[0]},${HEIGHT}Z`).join(""));
      const last = values[values.length - 1] ?? null;
      this.values[i].textContent = last === null ? "–" : this.format(last);
    });
    const said = this.names.map((name, i) => `${name} ${this.values[i].textContent}`).join(", ");
    this.drawing.setAttribute("aria-label", `${this.title}: ${said}`);
  }
}
