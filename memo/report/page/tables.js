// Tables with the numbers behind the pictures.

function kindsTable({ data, kinds }) {
  const peak = [...data.fixed.map(({ bytes }) => bytes), ...data.classes.map(({ at_peak }) => at_peak), data.transients_at_peak];
  const blocks = (count) => (count > 0 ? countText(count) : "");
  const rows = kinds.map(({ name, family }, i) => {
    const cls = data.classes[i - data.fixed.length];
    return [name, family === "saved" ? "tensor" : family === "gradient" ? "gradient" : family, bytesText(peak[i]),
      cls?.row ? bytesText(cls.row * data.block) : "", ...(cls?.row ? [blocks(cls.recomputed), blocks(cls.swapped), blocks(cls.kept)] : ["", "", ""])];
  });
  return table(["kind", "what", "at the peak", "a block", "blocks recomputed", "swapped", "kept"], rows, [1]);
}

function occupancyTable(subject, clock) {
  const { data, calls } = subject, live = liveBytes(subject), tiers = data.tiers.map((_, t) => tierBytes(subject, t));
  const rows = [], parts = 24;
  for (let i = 0; i < parts; ++i) {
    const time = (clock[calls] * i) / parts, next = (clock[calls] * (i + 1)) / parts;
    const k = Math.min(calls - 1, indexAt(clock, time)), last = Math.max(k + 1, Math.min(calls, indexAt(clock, next)));
    let most = 0;
    for (let j = k; j < last; ++j) most = Math.max(most, live.total[j]);
    rows.push([secondsText(time), callName(subject, k), bytesText(most), ...tiers.map((series) => bytesText(series[k]))]);
  }
  return table(["from", "call", "device, at most until the next row", ...data.tiers.map(({ name }) => `${name}, then`)], rows, [1]);
}

function streamsTable(subject) {
  const { data, program, timelines } = subject, names = Object.keys(timelines), sums = new Map();
  for (const name of names) {
    const { calls } = timelines[name];
    calls.index.forEach((k, i) => {
      const key = `${data.segments[program["call.segment"][k]].name} ${phaseNames[program["call.phase"][k]]}`;
      const row = sums.get(key) ?? { count: 0, seconds: {} };
      if (name === names[0]) ++row.count;
      row.seconds[name] = (row.seconds[name] ?? 0) + calls.end[i] - calls.start[i];
      sums.set(key, row);
    });
  }
  const rows = [...sums].sort((a, b) => b[1].seconds[names[0]] - a[1].seconds[names[0]])
    .map(([key, { count, seconds }]) => [key, countText(count), ...names.map((name) => secondsText(seconds[name]))]);
  return table(["call", "times", ...names], rows);
}

function stallsTable(subject, name) {
  const { stalls } = subject.timelines[name], order = Array.from(stalls.start.keys());
  order.sort((a, b) => stalls.end[b] - stalls.start[b] - (stalls.end[a] - stalls.start[a]));
  const rows = order.slice(0, 20).map((i) => [copyName(subject, stalls.index[i]), secondsText(stalls.start[i]),
    secondsText(stalls.end[i] - stalls.start[i])]);
  return rows.length > 0 ? table([`longest stalls, ${name}: waits for`, "at", "for"], rows) : element("p", {}, `No stalls, ${name}.`);
}

function stepsTable({ steps }) {
  const shown = steps.length <= 200 ? steps : steps.filter((_, i) => i % Math.ceil(steps.length / 200) === 0 || i + 1 === steps.length);
  return table(["step", "loss", "gradient norm", "learning rate", "time", "stalls"],
    shown.map(([step, loss, norm, lr, seconds, stall]) =>
      [String(step), fixedText(loss, 4), fixedText(norm, 3), lr.toExponential(2), secondsText(seconds), secondsText(stall)]));
}
