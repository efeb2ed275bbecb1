// Puts the page together, and again for another tab, clock or colour scheme.

const page = JSON.parse($("data").textContent), all = page.subjects;
for (const subject of all) subject.path = subject.name;
for (const subject of all) subject.name = shortName(subject.path, all.map(({ path }) => path));
const opened = new Map();  // subjects are unpacked when first shown
const seconds = Math.max(...all.flatMap(({ timelines }) => Object.values(timelines).map((t) => t?.step ?? 0)));
const bytes = Math.max(...all.map(({ predicted, limit }) => Math.max(predicted.peak, limit <= 1.25 * predicted.peak ? limit : 0)));
const view = new View(seconds, bytes * 1.01);  // one scale for all, so that tabs can be compared
const map = new MemoryMap($("map"), view), streams = new Streams($("streams"), view), occupancy = new OccupancyCharts($("tiers"), view);
let shown = 0, clockName = "predicted", single = -1, lossCharts = [];

view.onChange(() => {
  map.canvas.redraw();
  streams.canvas?.redraw();
});

function heading() {
  const first = all[0], one = all.length === 1;
  document.title = `Memo: ${all.map(({ name }) => name).join(", ")}`;
  $("title").title = all.map(({ path }) => path).join("\n");
  $("title").textContent = one ? first.name : `${all.length} plans and runs`;
  $("subtitle").textContent = one ? describe(first) : first.model;
  $("footer").textContent = `Written by memo ${page.memo}. Sizes in powers of 1024. The whole plan is in plan.json.`;
  if (one) return;
  $("comparison").hidden = false;
  $("comparison-table").replaceChildren(comparisonTable(all));
}

function describe({ model, device, strategy, context, blocks, block, groups }) {
  return `${model} on ${device}. Strategy ${strategy}, context ${countText(context)} in ${blocks} block${blocks > 1 ? "s" : ""} of ` +
    `${countText(block)} tokens${groups > 1 ? `, ${groups} head groups` : ""}.`;
}

function tabs() {
  if (all.length < 2) return;
  $("tabs").hidden = false;
  $("tabs").replaceChildren(...all.map(({ name }, i) => element("button", {
    role: "tab", "aria-selected": String(i === shown), tabindex: i === shown ? "0" : "-1", onclick: () => select(i),
    onkeydown: ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (step) select((i + step + all.length) % all.length).then(() => $("tabs").children[shown].focus());
    },
  }, name)));
}

function tools(subject) {
  const button = (text, label, act) => element("button", { "aria-label": label, title: label, onclick: act }, text);
  const clocks = Object.keys(subject.timelines);
  const choice = clocks.length > 1 ? element("label", {}, "Time as ", element("select", { "aria-label": "Time as",
    onchange: ({ target }) => { clockName = target.value; render(); } },
    ...clocks.map((name) => element("option", { value: name, selected: name === clockName }, name)))) : null;
  $("tools").replaceChildren(...[choice, button("−", "Zoom out", () => view.zoom("time", 2)), button("+", "Zoom in", () => view.zoom("time", 0.5)),
    button("Without weights", "Show only the addresses of tensors", () => view.place("address", ...tensorAddresses(subject))), button("Everything", "Show everything", () => view.reset())].filter(Boolean));
}

// [low, span] of addresses that are not occupied during the whole step.
function tensorAddresses({ rectangles, kinds }) {
  let low = Infinity, high = 0;
  for (let i = 0; i < rectangles.count; ++i) {
    if (kinds[rectangles.kind[i]].family === "fixed") continue;
    low = Math.min(low, rectangles.low[i]);
    high = Math.max(high, rectangles.high[i]);
  }
  return [low, Math.max(1, high - low)];
}

function legend(subject) {
  const live = liveBytes(subject), colours = kindColours(subject.kinds), most = live.byKind.map((series) => series.reduce((a, b) => Math.max(a, b), 0));
  const order = subject.kinds.map((_, i) => i).filter((i) => most[i] > 0);
  $("legend").replaceChildren(...order.map((i) => element("button", {
    "aria-pressed": String(i === single), title: `at most ${bytesText(most[i])} at a time`,
    onclick: () => { single = single === i ? -1 : i; legend(subject); map.single = single; map.recolour(); },
  }, element("i", { style: `background:${rgb(colours[i])}` }), subject.kinds[i].name, element("small", {}, bytesText(most[i])))));
}

function losses(subject) {
  for (const chart of lossCharts) chart.destroy();
  lossCharts = [];
  $("loss").replaceChildren();
  const runs = all.filter(({ steps }) => steps.length > 0), placed = all.filter(({ loss_by_position: losses }) => losses.length > 0);
  $("loss-section").hidden = runs.length + placed.length === 0;
  if (runs.length > 0)
    lossCharts.push(lineChart($("loss"), { height: 240, label: "Loss by step", xTitle: "step", yTitle: "loss, nats per token",
      lines: runs.map(({ name, steps }) => ({ label: name, points: steps.map(([step, loss]) => [step, loss]) })) }));
  if (placed.length > 0) {
    $("loss").append(element("p", { class: "caption" }, "By position in the context, as memo eval found it:"));
    lossCharts.push(lineChart($("loss"), { height: 200, label: "Loss by position in the context", xTitle: "token", yTitle: "loss, nats per token",
      lines: placed.map(({ name, loss_context: context, loss_by_position: by }) => ({ label: name, points: by.map((loss, i) => [Math.round(((i + 0.5) * context) / by.length), loss]) })) }));
  }
  const keep = $("loss-table").querySelector("details")?.open;
  $("loss-table").replaceChildren(subject.data.steps.length > 0 ? behind(`Steps of ${subject.data.name}`, stepsTable(subject.data)) : "");
  if (keep && $("loss-table").firstChild) $("loss-table").firstChild.open = true;
}

function render() {
  const subject = opened.get(shown);
  if (!subject) return;
  if (!subject.timelines[clockName]) clockName = "predicted";
  const clock = subject.timelines[clockName].clock;
  $("figures").replaceWith(Object.assign(headline(subject), { id: "figures" }));
  tools(subject);
  legend(subject);
  map.show(subject, clock, single);
  occupancy.show(subject, clock);
  streams.show(subject);
  $("streams-lead").textContent = streamsLead(subject);
  $("streams-legend").replaceChildren(...streamsLegend(subject));
  $("prediction").replaceChildren(predictionTable(subject));
  $("waiting").replaceChildren(waitingTable(subject));
  const { bars, lead } = fragmentationBars(subject);
  $("fragmentation").replaceChildren(bars);
  $("fragmentation-lead").textContent = lead;
  losses(subject);
}

function streamsLead(subject) {
  const parts = Object.entries(subject.timelines).map(([name, { step, stall, stalls }]) =>
    `${name}: compute waits ${secondsText(stall)} of ${secondsText(step)}` + (stalls.start.length > 0 ? `, in ${countText(stalls.start.length)} stalls` : ""));
  const text = parts.join("; ");
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

// Tables take long to make, so they are made when first opened.
function lazyTables(subject) {
  const lazy = (parent, title, make) => {
    const details = element("details", { ontoggle: () => { if (details.open && !details.lastChild.hasChildNodes()) details.lastChild.append(...make()); } },
      element("summary", {}, title), element("div", {}));
    $(parent).replaceChildren(details);
  };
  lazy("map-table", "Kinds of memory as a table", () => [kindsTable(subject)]);
  lazy("tiers-table", "Bytes in use as a table", () => [occupancyTable(subject, subject.timelines[clockName].clock)]);
  lazy("streams-table", "Calls and stalls as tables", () => [streamsTable(subject), ...Object.keys(subject.timelines).map((name) => stallsTable(subject, name))]);
}

async function select(i) {
  if (!opened.has(i)) opened.set(i, await openSubject(all[i]));
  shown = i;
  single = -1;
  tabs();
  render();
  lazyTables(opened.get(i));
  document.documentElement.dataset.ready = String(i);
}

Chart.defaults.font.family = "system-ui, sans-serif";
heading();
onThemeChange(render);
await select(0);
