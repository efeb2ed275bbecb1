// Lines over powers of two, by Chart.js, and the table behind them.
const thousands = (tokens) => {
  if (tokens >= 1 << 20) return `${+(tokens / (1 << 20)).toFixed(2)}M`;
  return tokens >= 1024 ? `${+(tokens / 1024).toFixed(1)}K` : `${tokens}`;
};
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");
let chart;

function draw() {
  chart?.destroy();
  const axis = (text, ticks, limits) => ({
    type: "logarithmic",
    ...limits,
    title: { display: true, text, color: style("soft") },
    grid: { color: style("grid") },
    ticks: { color: style("soft"), callback: ticks },
    afterBuildTicks: (scale) => {
      const from = Math.floor(Math.log2(scale.min)), to = Math.ceil(Math.log2(scale.max));
      const powers = Array.from({ length: to - from + 1 }, (_, i) => ({ value: 2 ** (from + i) }));
      scale.ticks = powers.filter(({ value }) => value >= scale.min && value <= scale.max);
    },
  });
  const datasets = data.lines.map(({ name, values }, i) => {
    const colour = `hsl(${(180 + (i * 360) / data.lines.length) % 360} 60% ${dark.matches ? 65 : 38}%)`;
    const points = values.map((y, at) => ({ x: data.x[at], y })).filter(({ y }) => y);
    return { label: name, data: points, borderColor: colour, backgroundColor: colour, borderWidth: 2, pointRadius: 3, borderDash: i % 2 ? [6, 4] : [] };
  });
  chart = new Chart(document.getElementById("chart"), {
    type: "line",
    data: { datasets },
    options: {
      animation: false, maintainAspectRatio: false,
      scales: { x: axis(data.x_title, (value) => `${value}`, { min: Math.min(...data.x) / 1.2, max: Math.max(...data.x) * 1.2 }), y: axis(data.y_title, thousands) },
      plugins: {
        legend: { labels: { color: style("ink") } },
        tooltip: { callbacks: { title: ([item]) => `${data.x_title} ${item.parsed.x}`, label: ({ dataset, parsed }) => ` ${dataset.label}: ${thousands(parsed.y)}` } },
      },
    },
  });
}

document.getElementById("title").textContent = document.title = data.title;
document.getElementById("subtitle").textContent = data.subtitle;
document.getElementById("chart").setAttribute("aria-label", `${data.y_title} by ${data.x_title}; the table below has the same numbers`);
const table = document.getElementById("table");
const row = (cells, kind) => {
  const line = table.insertRow();
  for (const text of cells) line.appendChild(Object.assign(document.createElement(kind), { textContent: text }));
};
row([data.x_title, ...data.x], "th");
for (const { name, values } of data.lines) row([name, ...values.map((value) => (value ? thousands(value) : "none"))], "td");
draw();
dark.addEventListener("change", draw);
document.documentElement.dataset.ready = "";
