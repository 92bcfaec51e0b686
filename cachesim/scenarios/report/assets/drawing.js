"use strict";
// What the charts of a report and those of the dashboard have in common.
const drawing = (() => {
  const color = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  const written = (value, unit) => {
    if (value == null) return "";
    if (unit === "ms" && value >= 1000) return written(value / 1000, "s");
    const rounded = Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
    const text = rounded.toLocaleString("en", { maximumSignificantDigits: 6 });
    return unit ? `${text} ${unit}` : text;
  };
  // Shades the times of faults, and marks those of promotions, under the lines of a plot.
  const shade = (plot, faults, promotions) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.fillStyle = color("shade");
    for (const [begin, end] of faults) {
      const left = Math.max(plot.valToPos(begin, "x", true), bbox.left);
      const right = Math.min(plot.valToPos(end, "x", true), bbox.left + bbox.width);
      if (right > left) ctx.fillRect(left, bbox.top, right - left, bbox.height);
    }
    ctx.strokeStyle = color("pass");
    ctx.setLineDash([4, 4]);
    for (const at of promotions) {
      const x = plot.valToPos(at, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  };

  const series = (line, unit) => {
    const stroke = color(line.color);
    const isArea = line.style === "area";
    return {
      label: line.label,
      stroke,
      width: { thin: 1, dash: 1.2 }[line.style] || 1.8,
      dash: line.style === "dash" ? [5, 4] : undefined,
      fill: isArea ? stroke + "33" : undefined,
      alpha: line.style === "thin" ? 0.75 : 1,
      points: { show: false },
      spanGaps: false,
      value: (_, value) => written(value, unit),
    };
  };

  // The options of an axis: its colours and its grid.
  const axis = () => ({
    stroke: color("muted"),
    font: "11px system-ui, sans-serif",
    grid: { stroke: color("grid"), width: 1 },
    ticks: { show: false },
  });

  return { color, written, shade, series, axis };
})();
