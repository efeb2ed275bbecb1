// Ordinary charts, by Chart.js: bytes in use over time, and loss. Their left and right edges are those of the canvases.

function baseOptions(extra = {}) {
  const ink = styleColour("soft"), grid = styleColour("grid");
  const axis = (options) => ({ grid: { color: grid, borderColor: styleColour("line") }, ticks: { color: ink, maxRotation: 0 }, ...options });
  return {
    animation: false, responsive: true, maintainAspectRatio: false, normalized: true, parsing: false,
    interaction: { mode: "index", intersect: false }, layout: { padding: { right: rightMargin } },
    plugins: { legend: { display: false }, tooltip: { boxPadding: 4 } },
    elements: { point: { radius: 0, hitRadius: 6 }, line: { borderWidth: 1.5 } },
    axis, ...extra,
  };
}

function chartIn(parent, height, label, config) {
  const canvas = element("canvas", { role: "img", "aria-label": label });
  parent.append(element("div", { class: "chart", style: `height:${height}px` }, canvas));
  return new Chart(canvas, config);
}

// The calls that represent the visible time, as [time, call]: for each pixel column the call with the highest `total`, for at
// most the column's width; then the column's last call, for its remaining time.
function seenCalls(clock, total, [from, to], columns) {
  const first = indexAt(clock, from), last = Math.min(clock.length - 2, indexAt(clock, to));
  if (last - first <= columns) return Array.from({ length: last - first + 1 }, (_, i) => [clock[first + i], first + i]);
  const seen = [], step = (to - from) / columns;
  for (let k = first, c = 0; c < columns && k <= last; ++c) {
    const until = from + (c + 1) * step, begin = k;
    let best = k;
    for (; k <= last && clock[k] < until; ++k) if (total[k] > total[best]) best = k;
    if (k === begin) continue;
    seen.push([clock[begin], best]);
    if (best < k - 1 && clock[k] > until) seen.push([until, k - 1]);
  }
  return seen;
}

const level = (label, value, colour, dash) => ({ label, steps: [[0, value]], colour: styleColour(colour), dash });

class OccupancyCharts {
  constructor(parent, view) {
    Object.assign(this, { parent, view, charts: [] });
    view.onChange(() => {
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => this.update(), 60);
    });
  }

  show(subject, clock) {
    Object.assign(this, { subject, clock });
    for (const { chart } of this.charts) chart.destroy();
    this.charts = [];
    this.parent.replaceChildren();
    const narrow = innerWidth < 640;
    this.device(narrow ? 220 : 260);
    subject.data.tiers.forEach((_, tier) => this.tier(tier, narrow ? 130 : 140));
    this.update();
  }

  // `layers` {label, values by call, colour} are stacked; `levels` {label, colour, dash, steps} are lines with a value from each
  // boundary on: [[boundary, value], ...].
  add(height, label, total, layers, levels) {
    const options = baseOptions(), left = gutter();
    options.scales = {
      x: options.axis({ type: "linear", ticks: { display: false }, grid: { display: false } }),
      y: options.axis({ beginAtZero: true, afterFit: (axis) => { axis.width = left; },
        afterBuildTicks: (axis) => { axis.ticks = ticks(axis.min, axis.max, height / 45, true).values.map((value) => ({ value })); },
        ticks: { color: styleColour("soft"), callback: (value) => (value === 0 ? "0" : bytesText(value).replace(/\.0+ /, " ")) } }),
    };
    options.plugins.tooltip.filter = ({ raw }) => raw.bytes > 0;
    options.plugins.tooltip.itemSort = (a, b) => b.raw.bytes - a.raw.bytes;
    options.plugins.tooltip.callbacks = {
      title: ([item]) => (item ? secondsText(item.parsed.x) : ""),
      label: ({ dataset, raw }) => ` ${dataset.label}: ${bytesText(raw.bytes)}`,
    };
    const datasets = [
      ...layers.map(({ label: name, colour }, i) => ({ label: name, data: [], stepped: true, fill: i === 0 ? "origin" : "-1",
        backgroundColor: colour, borderColor: colour, borderWidth: 0 })),
      ...levels.map(({ label: name, colour, dash }) => ({ label: name, data: [], stepped: true, borderColor: colour, backgroundColor: colour, borderDash: dash })),
    ];
    this.charts.push({ layers, levels, total, chart: chartIn(this.parent, height, label, { type: "line", data: { datasets }, options }) });
  }

  device(height) {
    const { data, kinds } = this.subject, live = liveBytes(this.subject), colours = kindColours(kinds);
    const layers = kinds.map((kind, i) => ({ label: kind.name, values: live.byKind[i], colour: rgb(colours[i]) }))
      .filter(({ values }) => values.some((value) => value > 0));
    const levels = [level("arena", data.predicted.peak, "ink", [6, 3]),
      { label: "caching allocator", steps: data.fragmentation.growth, colour: styleColour("soft"), dash: [2, 3] }];
    const near = data.limit > 0 && data.limit <= 1.6 * data.predicted.peak;
    if (near) levels.push(level("limit", data.limit, "bad"));
    const limit = near ? ". Red: the limit" : data.limit > 0 ? `. The limit, ${bytesText(data.limit)}, is above the picture` : "";
    this.parent.append(element("p", { class: "caption" }, `Device: live bytes by kind. Dashed: the arena, ${bytesText(data.predicted.peak)}. ` +
      `Dotted: what a caching allocator would reserve${limit}.`));
    this.add(height, "Bytes in use on the device over time, by kind", live.total, layers, levels);
  }

  tier(tier, height) {
    const { name, capacity, planned, peak } = this.subject.data.tiers[tier], values = tierBytes(this.subject, tier);
    const near = capacity <= 1.6 * Math.max(1, peak);
    this.parent.append(element("p", { class: "caption" },
      `Tier ${name}: at most ${bytesText(peak)} in use at a time. Dashed: ${bytesText(planned)} planned, of ${bytesText(capacity)}${near ? "" : ", which is above the picture"}.`));
    if (peak === 0) return;
    const levels = [level("planned", planned, "ink", [6, 3])];
    if (near) levels.push(level("capacity", capacity, "bad"));
    this.add(height, `Bytes in use on the tier ${name} over time`, values, [{ label: "in use", values, colour: rgb(streamColours().out) }], levels);
  }

  update() {
    if (!this.subject) return;
    const { clock, view } = this, [from, to] = view.time;
    for (const { chart, layers, levels, total } of this.charts) {
      const seen = seenCalls(clock, total, view.time, Math.max(120, Math.min(700, chart.width)));
      if (seen.length > 0) seen.push([Math.min(to, clock.at(-1)), seen.at(-1)[1]]);
      const heights = seen.map(() => 0);
      layers.forEach(({ values }, i) => {
        chart.data.datasets[i].data = seen.map(([x, k], at) => ({ x, y: (heights[at] += values[k]), bytes: values[k] }));
      });
      levels.forEach(({ steps }, i) => {
        const points = steps.map(([boundary, y]) => ({ x: clock[boundary], y, bytes: y }));
        chart.data.datasets[layers.length + i].data = [...points, { ...points.at(-1), x: Math.max(to, points.at(-1).x) }];
      });
      chart.options.scales.x.min = from;
      chart.options.scales.x.max = to;
      chart.update("none");
    }
  }
}

// Lines over a number: loss by step, loss by position. lines: [{label, points: [[x, y], ...]}]
function lineChart(parent, { height, label, xTitle, yTitle, lines }) {
  const options = baseOptions(), left = gutter(), colours = lineColours(lines.length);
  const title = (text) => ({ display: true, text, color: styleColour("soft") });
  options.scales = {
    x: options.axis({ type: "linear", title: title(xTitle), ticks: { color: styleColour("soft"), precision: 0, maxRotation: 0 } }),
    y: options.axis({ title: innerWidth < 640 ? {} : title(yTitle), afterFit: (axis) => { axis.width = left; } }),
  };
  options.plugins.legend = { display: lines.length > 1, labels: { color: styleColour("ink"), boxWidth: 18, boxHeight: 2 } };
  options.plugins.tooltip.callbacks = {
    title: ([item]) => `${xTitle} ${item.parsed.x}`, label: ({ dataset, parsed }) => ` ${dataset.label}: ${parsed.y.toFixed(4)}`,
  };
  const datasets = lines.map(({ label: name, points }, i) => ({
    label: name, data: points.map(([x, y]) => ({ x, y })), borderColor: colours[i], backgroundColor: colours[i], borderWidth: 2,
    borderDash: i % 2 ? [6, 4] : [], pointRadius: points.length <= 40 ? 2.5 : 0, tension: 0,
  }));
  return chartIn(parent, height, label, { type: "line", data: { datasets }, options });
}

function lineColours(count) {
  return Array.from({ length: count }, (_, i) => rgb(oklch(isDark() ? 0.76 : 0.54, 0.13, (195 + (i * 360) / Math.max(1, count)) % 360)));
}
