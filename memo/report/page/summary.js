// Figures in words and bars: the headline, prediction against measurement, stalls, fragmentation, runs side by side.

function headline({ data }) {
  const { predicted, measured, limit } = data, now = measured ?? predicted;
  const noted = (text) => element("span", { class: "note" }, text);
  const against = (key, text) => noted(measured ? `predicted ${text(predicted[key])}` : "predicted");
  const figure = (name, value, ...notes) => element("div", { class: "figure" }, element("dt", {}, name), element("dd", {}, value, ...notes));
  const meter = limit > 0 ? element("div", { class: "meter" }, element("i", { style: `width:${Math.min(100, (100 * predicted.peak) / limit)}%` })) : null;
  const share = predicted.step > 0 ? now.stall / now.step : 0;
  return element("dl", { class: "figures", style: "margin-bottom:0" },
    figure("Device peak", bytesText(now.peak), against("peak", bytesText), noted(limit > 0 ? `limit ${bytesText(limit)}` : "no limit"), meter),
    figure("Step", secondsText(now.step), against("step", secondsText), noted(`${secondsText(predicted.step_lower_bound)} without recomputation and stalls`)),
    figure("Stalls", percentText(share), noted(`${secondsText(now.stall)} a step`), measured ? against("stall", secondsText) : null),
    figure("Copied out", bytesText(now.bytes_out), noted(`${bytesText(now.bytes_in)} in`)),
    figure("Tokens a second", countText(data.context / now.step), noted(`${countText(data.context)} tokens a step`)));
}

function predictionTable({ data }) {
  const { predicted, measured } = data;
  if (!measured)
    return element("p", { class: "lead" }, "A plan alone: nothing was measured. Name the run's folder to compare.");
  const row = (name, key, text) => [name, text(predicted[key]), text(measured[key]), errorText(measured[key], predicted[key])];
  const rows = [row("device peak", "peak", bytesText), row("step", "step", secondsText), row("stalls", "stall", secondsText),
    row("bytes out", "bytes_out", bytesText), row("bytes in", "bytes_in", bytesText),
    ["departures", "0", countText(measured.departures), measured.departures > 0 ? measured.first_departure : ""]];
  return table(["", "predicted", "measured", "error"], rows);
}

function waitingTable({ data }) {
  const rows = [];
  for (const [name, timeline] of Object.entries(data.timelines)) {
    if (!timeline) continue;
    for (const { class: cls, direction, count, seconds, longest } of timeline.stalls.slice(0, 8))
      rows.push([`${data.classes[cls].name}, copy ${direction === 0 ? "out" : "in"}`, name, countText(count), secondsText(longest),
        secondsText(seconds), percentText(seconds / timeline.step)]);
  }
  if (rows.length === 0) return element("p", { class: "lead" }, "Compute never waits for a copy.");
  return table(["waits for", "", "stalls", "longest", "in all", "of the step"], rows, [1]);
}

function fragmentationBars({ data }) {
  const { lower_bound, planned, allocated, reserved, failed_at } = data.fragmentation, limit = data.limit;
  const rows = [["Lower bound", lower_bound, "live bytes at the peak: no addresses need less", styleColour("good")],
    ["Planned", planned, `${percentText(planned / lower_bound - 1)} over the bound`, styleColour("accent")],
    ["Caching allocator, allocated", allocated, "the same requests, rounded to 512 bytes", styleColour("soft")],
    ["Caching allocator, reserved", reserved, `${percentText(reserved / lower_bound - 1)} over the bound`, styleColour("soft")]];
  const most = Math.max(...rows.map(([, bytes]) => bytes), limit <= 1.6 * planned ? limit : 0), bars = element("div", { class: "bars" });
  for (const [name, bytes, note, colour] of rows) {
    const track = element("div", { class: "track", "aria-hidden": "true" }, element("i", { style: `width:${(100 * bytes) / most}%;background:${colour}` }));
    if (limit > 0 && limit <= most) track.append(element("b", { style: `left:${(100 * limit) / most}%`, title: `limit ${bytesText(limit)}` }));
    bars.append(element("span", { class: "name" }, name), track, element("span", { class: "value" }, bytesText(bytes)), element("small", {}, note));
  }
  const lead = `PyTorch's caching allocator, simulated on the same requests, would reserve ${bytesText(Math.abs(reserved - planned))} ` +
    `${reserved >= planned ? "more" : "less"} than the plan` +
    (failed_at >= 0 ? ", and under this limit it would run out of memory." : ".");
  return { bars, lead };
}

function comparisonTable(all) {
  const rows = all.map((data) => {
    const now = data.measured ?? data.predicted, last = data.steps.at(-1);
    return [data.name, data.strategy, data.run ? "measured" : "predicted", countText(data.context), bytesText(now.peak), secondsText(now.step),
      percentText(now.stall / now.step), bytesText(now.bytes_out), countText(data.context / now.step), last ? fixedText(last[1], 4) : "",
      data.measured ? data.measured.loss_digest : ""];
  });
  return table(["", "strategy", "", "context", "device peak", "step", "stalls", "copied out", "tokens/s", "last loss", "loss digest"], rows, [1, 2]);
}
