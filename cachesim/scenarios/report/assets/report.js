"use strict";
// Draws the charts of a run, and moves the timeline along when one of them is zoomed.
(() => {
  const data = JSON.parse(document.getElementById("series").textContent);
  const { color, written, shade, series } = drawing;
  const AXIS = parseInt(color("axis"), 10);
  const HEIGHT = 150;
  const whole = [data.begin, data.end];
  let plots = [];
  let zoom = whole;

  const length = (at, step) =>
    step >= 60 && at !== 0 ? `${at / 60} min` : `${Number(at.toFixed(1))} s`;
  const seconds = (at) => {
    const real = `${Number(at.toFixed(2))} s`;
    if (data.speed === 1) return real;
    return `${real} (${Math.round(at * data.speed)} s)`;
  };

  const powerOfTen = (value) => (Number.isInteger(Math.log10(value)) ? value : null);

  const moveTimeline = ([begin, end]) => {
    const percent = (at) => ((at - begin) / (end - begin)) * 100;
    for (const it of document.querySelectorAll(".timeline [data-b]")) {
      const left = percent(Number(it.dataset.b));
      if (it.tagName === "circle") it.setAttribute("cx", left + "%");
      else if (it.tagName === "line") {
        it.setAttribute("x1", left + "%");
        it.setAttribute("x2", left + "%");
      } else if (it.tagName === "rect") {
        const right = Math.min(percent(Number(it.dataset.e)), 100);
        const from = Math.max(left, 0);
        it.setAttribute("x", from + "%");
        it.setAttribute("width", Math.max(right - from, right < 0 || left > 100 ? 0 : 0.15) + "%");
      } else {
        const inside = it.dataset.e && left < 0 && percent(Number(it.dataset.e)) > 0;
        it.setAttribute("x", (inside ? 0 : left) + "%");
      }
    }
  };

  const onScale = (plot, key) => {
    if (key !== "x") return;
    const next = [plot.scales.x.min, plot.scales.x.max];
    if (next[0] === zoom[0] && next[1] === zoom[1]) return;
    zoom = next;
    moveTimeline(zoom);
    for (const other of plots) if (other !== plot) other.setScale("x", { min: next[0], max: next[1] });
  };

  const options = (chart, place, width) => {
    const lines = drawing.axis();
    return {
      width,
      height: HEIGHT,
      padding: [8, 12, 0, 0],
      cursor: { sync: { key: "run" }, drag: { x: true, y: false }, points: { size: 6 } },
      legend: {
        mount: (_, legend) => place.querySelector(".about").append(legend),
        markers: {
          width: (_, number) => (chart.lines[number - 1]?.style === "thin" ? 1 : 2.5),
          dash: (_, number) => (chart.lines[number - 1]?.style === "dash" ? "dashed" : "solid"),
        },
      },
      scales: {
        x: {
          time: false,
          range: (plot, least, most) => {
            const x = plot.data[0];
            return least === x[0] && most === x[x.length - 1] ? whole : [least, most];
          },
        },
        y: chart.log
          ? { distr: 3 }
          : { range: (_, __, most) => [0, Math.max((most || 0) * 1.08, chart.unit === "%" ? 1 : 0.01)] },
      },
      axes: [
        {
          ...lines,
          size: 28,
          gap: 6,
          incrs: [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200],
          values: (_, ticks, __, ___, step) => ticks.map((at) => length(at, step)),
        },
        {
          ...lines,
          grid: chart.log ? { ...lines.grid, filter: (_, ticks) => ticks.map(powerOfTen) } : lines.grid,
          size: AXIS,
          gap: 6,
          space: 28,
          values: (_, ticks) => ticks.map((at) => (at == null ? "" : written(at, chart.unit))),
        },
      ],
      series: [
        { label: "at", value: (_, at) => (at == null ? "" : seconds(at)) },
        ...chart.lines.map((line) => series(line, chart.unit)),
      ],
      hooks: { drawClear: [(plot) => shade(plot, data.faults, data.promotions)], setScale: [onScale] },
    };
  };

  const draw = () => {
    for (const plot of plots) plot.destroy();
    for (const legend of document.querySelectorAll(".about .u-legend")) legend.remove();
    plots = [];
    zoom = whole;
    moveTimeline(whole);
    for (const [number, chart] of data.charts.entries()) {
      const place = document.getElementById(`chart-${number}`);
      const target = place.querySelector(".plot");
      const values = [data.at, ...chart.lines.map((line) => line.values)];
      plots.push(new uPlot(options(chart, place, target.clientWidth), values, target));
    }
  };

  draw();
  new ResizeObserver(() => {
    for (const plot of plots) {
      const width = plot.root.parentElement.clientWidth;
      if (width !== plot.width) plot.setSize({ width, height: HEIGHT });
    }
  }).observe(document.querySelector("main"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.getElementById("copy").addEventListener("click", (event) => {
    const command = document.getElementById("again").textContent;
    const done = () => (event.target.textContent = "Copied");
    if (navigator.clipboard) navigator.clipboard.writeText(command).then(done, () => {});
  });
  document.documentElement.dataset.charts = String(plots.length);
})();
