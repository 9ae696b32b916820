// The status view: /metrics asked every two seconds while it is shown, drawn as charts.

import { Chart } from "./chart.js";
import { byId, el } from "./dom.js";
import { parseMetrics, quantileBetween } from "./prometheus.js";

const EVERY = 2000; // ms
const SPAN = 300; // seconds of the charts at most, and
const SHORTEST = 60; // at least
const WINDOW = 10; // samples that a latency looks back over

const whole = (value) => Math.round(value).toLocaleString("en");
const short = (value) => (value >= 100 ? whole(value) : value.toLocaleString("en", { maximumSignificantDigits: 3 }));
const milliseconds = (value) => short(value * 1000);

// Samples (oldest first) to series.
const rate = (metric) => (samples) => samples.map((sample, i) =>
  i === 0 ? null : Math.max(0, sample.values.get(metric) - samples[i - 1].values.get(metric)) / (sample.time - samples[i - 1].time));
const gauge = (metric) => (samples) => samples.map((sample) => sample.values.get(metric) ?? null);
const quantile = (metric, q) => (samples) => samples.map((sample, i) =>
  quantileBetween(samples[Math.max(0, i - WINDOW)].values, sample.values, metric, q));

const CHARTS = [
  { title: "Tokens a second", unit: "", format: short, series: [
    ["generated", rate("mxmla_step_new_tokens")], ["prompt", rate("mxmla_step_prompt_tokens")]] },
  { title: "Requests", unit: "", format: whole, series: [
    ["running", gauge("mxmla_requests_running")], ["waiting", gauge("mxmla_requests_waiting")]] },
  { title: "Time to first token", unit: "ms", format: milliseconds, series: [
    ["median", quantile("mxmla_time_to_first_token_seconds", 0.5)], ["p95", quantile("mxmla_time_to_first_token_seconds", 0.95)]] },
  { title: "Time a token", unit: "ms", format: milliseconds, series: [
    ["median", quantile("mxmla_time_per_output_token_seconds", 0.5)], ["p95", quantile("mxmla_time_per_output_token_seconds", 0.95)]] },
  { title: "KV cache pages", unit: "", format: whole, series: [
    ["used", gauge("mxmla_kv_pages_used")], ["free but known", gauge("mxmla_kv_pages_cached")]] },
  { title: "Connections", unit: "", format: whole, series: [["open", gauge("mxmla_connections")]] },
];

export class StatusView {
  /** @param {Api} api  @param {ServerState} server */
  constructor(api, server) {
    this.api = api;
    this.server = server;
    this.samples = [];
    this.timer = 0;
    this.isShown = false;
    this.charts = CHARTS.map(({ title, unit, series, format }) => new Chart(title, unit, series.map(([name]) => name), format));
    this.lead = el("p", { class: "lead" });
    this.failure = el("p", { class: "failure", role: "alert", hidden: true });
    this.facts = el("dl", { class: "facts" });
    byId("status").append(el("div", { class: "status-inner" },
      el("h1", {}, "Status"), this.lead, this.failure,
      el("div", { class: "charts" }, ...this.charts.map((chart) => chart.element)), this.facts));
    document.addEventListener("visibilitychange", () => this.run());
  }

  show(isShown) {
    this.isShown = isShown;
    this.run();
  }

  async run() {
    clearTimeout(this.timer);
    const turn = (this.turn = {});
    if (!this.isShown || document.hidden) return;
    await this.sample();
    if (turn === this.turn) this.timer = setTimeout(() => this.run(), EVERY);
  }

  async sample() {
    try {
      const values = parseMetrics(await this.api.text("metrics"));
      const time = performance.now() / 1000;
      this.samples.push({ time, values });
      this.samples = this.samples.filter((sample) => time - sample.time <= SPAN);
      if (!this.server.info) await this.server.readInfo();
      this.failure.hidden = true;
      this.draw(values);
    } catch (error) {
      this.server.watch();
      this.failure.textContent = error.message;
      this.failure.hidden = false;
    }
  }

  draw(values) {
    const times = this.samples.map((sample) => sample.time);
    const span = Math.max(SHORTEST, times[times.length - 1] - times[0]);
    CHARTS.forEach(({ series }, i) => this.charts[i].update(times, series.map(([, read]) => read(this.samples)), span));
    const info = this.server.info ?? {};
    const number = (name) => values.get(name) ?? 0;
    const prompt = number("mxmla_prompt_tokens_total");
    const cached = number("mxmla_cached_tokens_total");
    const steps = number("mxmla_steps");
    this.lead.textContent = `${this.server.name} on mxmla ${info.version ?? ""}. Up to five minutes, while this view is open.`;
    const facts = [
      ["Context", `${whole(info.max_model_len ?? 0)} tokens`],
      ["At once", `${whole(info.max_sequences ?? 0)} requests`],
      ["Queue", `${whole(info.max_queue ?? 0)} requests`],
      ["KV cache", `${whole(number("mxmla_kv_pages"))} pages`],
      ["Tokens generated", whole(number("mxmla_generation_tokens_total"))],
      ["Prompt tokens", whole(prompt)],
      ["Of them cached", prompt > 0 ? `${((100 * cached) / prompt).toFixed(1)}%` : "–"],
      ["Steps", whole(steps)],
      ["Time a step", steps > 0 ? `${milliseconds(number("mxmla_step_seconds") / steps)} ms` : "–"],
      ["Pre-emptions", whole(number("mxmla_preemptions"))],
    ];
    this.facts.replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }
}
