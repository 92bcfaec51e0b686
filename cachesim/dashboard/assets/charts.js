// The charts of the servers' figures, with the times of faults and promotions.

import { byId, html } from "./dom.js";

const WINDOW = 300; // seconds that are shown at most
const SHORTEST = 60; // seconds that are shown at least
const GAP = 7; // seconds without a reading that are shown as a gap
const GRACE = 3; // seconds until a fault is in the picture
const HEIGHT = 128;

const CHARTS = [
  { title: "Memory", unit: "%", figure: "memory" },
  { title: "Hit rate", unit: "%", figure: "hit_rate" },
  { title: "Connections", unit: "", figure: "connections" },
  { title: "Replication lag, bytes", unit: "", figure: "lag", service: "redis" },
  { title: "Evictions a second", unit: "", figure: "evictions" },
  { title: "Processor", unit: "%", figure: "cpu" },
];

export class Charts {
  constructor() {
    this.samples = [];
    this.faults = new Map(); // its times, by the fault's id
    this.active = new Set(); // the faults of the last picture
    this.seen = new Set(); // those that were active while this page was open
    this.promotions = [];
    this.plots = [];
    this.nodes = [];
    const root = byId("charts");
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
    new ResizeObserver(() => {
      for (const plot of this.plots) {
        const width = plot.root.parentElement.clientWidth;
        if (width && width !== plot.width) plot.setSize({ width, height: HEIGHT });
      }
    }).observe(root);
  }

  show(picture) {
    this.active = new Set(picture.faults.map((it) => it.id));
    const names = picture.nodes.map((it) => it.name).join();
    if (names === this.names) return;
    this.names = names;
    this.nodes = picture.nodes;
    this.build();
  }

  history(samples) {
    this.samples = samples;
    this.update();
  }

  add(sample) {
    const last = this.samples.at(-1);
    if (last && sample.at - last.at > GAP) this.samples.push({ at: (last.at + sample.at) / 2, nodes: {} });
    this.samples.push(sample);
    this.close(sample.at);
    while (this.samples[1]?.at < sample.at - WINDOW) this.samples.shift();
    this.update();
  }

  /** Note the times of faults and promotions. */
  note(events) {
    for (const it of events) {
      if (it.kind === "fault") this.faults.set(it.fault, [it.at, Infinity]);
      else if (it.kind === "heal" && this.faults.has(it.fault)) this.faults.get(it.fault)[1] = it.at;
      else if (it.kind === "failover") this.promotions.push(it.at);
    }
    const oldest = Date.now() / 1000 - WINDOW;
    for (const [id, [, end]] of this.faults) if (end < oldest) this.faults.delete(id);
    this.promotions = this.promotions.filter((at) => at >= oldest);
  }

  /** End the times of faults that ended without an event: a killed node got a new process. */
  close(now) {
    for (const [id, times] of this.faults) {
      if (this.active.has(id)) this.seen.add(id);
      else if (times[1] !== Infinity) this.seen.delete(id);
      else if (this.seen.delete(id)) times[1] = now;
      else if (now - times[0] > GRACE) this.faults.delete(id); // before this page was opened
    }
  }

  build() {
    for (const plot of this.plots) plot.destroy();
    const root = byId("charts");
    root.replaceChildren();
    this.plots = CHARTS.map((chart) => {
      const nodes = this.nodes.filter((it) => !chart.service || it.service === chart.service);
      const place = html("div", { class: "plot" });
      const now = html("span", { class: "now" });
      root.append(
        html("figure", {}, html("figcaption", {}, html("h3", {}, chart.title), now), place),
      );
      const plot = new uPlot(this.options(chart, nodes, place.clientWidth), this.data(chart, nodes), place);
      Object.assign(plot, { chart, nodes, now });
      return plot;
    });
    byId("legend").replaceChildren(
      ...this.nodes.map((it) =>
        html("span", { class: `key z${it.zone} ${it.service}` }, html("i", {}), it.name),
      ),
    );
    this.update();
  }

  options(chart, nodes, width) {
    const axis = drawing.axis();
    return {
      width,
      height: HEIGHT,
      padding: [8, 24, 0, 0], // half a time's label
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 }, sync: { key: "dashboard" } },
      scales: {
        x: { time: true, range: () => this.range() },
        y: { range: (_, __, most) => [0, Math.max((most || 0) * 1.15, chart.unit === "%" ? 5 : 4)] },
      },
      axes: [
        { ...axis, size: 24, gap: 5, space: 64, values: (_, ticks) => ticks.map(timeOfDay) },
        {
          ...axis, size: 48, gap: 6, space: 26,
          values: (_, ticks) => ticks.map((at) => short(at, chart.unit)),
        },
      ],
      series: [
        {},
        ...nodes.map((it) =>
          drawing.series(
            { label: it.name, color: `z${it.zone}`, style: it.service === "redis" ? "" : "dash" },
            chart.unit,
          ),
        ),
      ],
      hooks: {
        drawClear: [(plot) => drawing.shade(plot, this.times(), this.promotions)],
        setCursor: [(plot) => this.tell(plot)],
      },
    };
  }

  range() {
    const end = this.samples.at(-1)?.at ?? Date.now() / 1000;
    const begin = Math.min(this.samples[0]?.at ?? end, end - SHORTEST);
    return [Math.max(begin, end - WINDOW), end];
  }

  /** Return the times with any fault. */
  times() {
    const [, end] = this.range();
    const found = [];
    for (const [from, to] of [...this.faults.values()].sort((a, b) => a[0] - b[0])) {
      const last = found.at(-1);
      if (last && from <= last[1]) last[1] = Math.max(last[1], Math.min(to, end));
      else found.push([from, Math.min(to, end)]);
    }
    return found;
  }

  data(chart, nodes) {
    const oldest = this.range()[0];
    const shown = this.samples.filter((it) => it.at >= oldest);
    return [
      shown.map((it) => it.at),
      ...nodes.map((node) => shown.map((it) => it.nodes[node.name]?.[chart.figure] ?? null)),
    ];
  }

  update() {
    for (const plot of this.plots) {
      plot.setData(this.data(plot.chart, plot.nodes));
      this.tell(plot);
    }
  }

  /** Tell the values under the pointer, or the latest, of the node where they are highest. */
  tell(plot) {
    if (!plot.chart) return;
    const at = plot.cursor.idx ?? plot.data[0].length - 1;
    const values = plot.nodes
      .map((node, number) => [plot.data[number + 1][at], node.name])
      .filter(([value]) => value != null);
    let text = "no data";
    if (values.length) {
      const [value, name] = values.reduce((a, b) => (b[0] > a[0] ? b : a));
      text = drawing.written(value, plot.chart.unit) + (value > 0 ? ` on ${name}` : "");
    }
    if (plot.now.textContent !== text) plot.now.textContent = text;
  }
}

const timeOfDay = (at) => new Date(at * 1000).toLocaleTimeString("en-GB", { hour12: false }).slice(0, 8);

const short = (value, unit) => {
  const [by, letter] = value >= 1e6 ? [1e6, "M"] : value >= 1e3 ? [1e3, "k"] : [1, ""];
  return drawing.written(value / by, "") + letter + (unit ? ` ${unit}` : "");
};
