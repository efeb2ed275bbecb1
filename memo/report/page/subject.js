// Prepares a plan or run for drawing: kinds of memory, rectangles, streams and clocks as flat arrays.

const phaseNames = ["forward", "backward", "rerun"];

async function openSubject(data) {
  const program = await readColumns(data.program);
  const timelines = {};
  for (const [name, timeline] of Object.entries(data.timelines))
    if (timeline) timelines[name] = await openTimeline(timeline, program);
  const kinds = [
    ...data.fixed.map(({ name }) => ({ name, family: "fixed" })),
    ...data.classes.map(({ name, gradient, persistent }) => ({ name, family: persistent ? "fixed" : gradient ? "gradient" : "saved" })),
    { name: "transients", family: "transients" },
  ];
  const subject = { data, program, timelines, kinds, calls: program["call.segment"].length };
  subject.rectangles = rectanglesOf(subject);
  return subject;
}

// Spans in seconds, and the clock: the time of each boundary (a call's start; for the last one, the step's end).
async function openTimeline(timeline, program) {
  const packed = await readColumns(timeline.columns);
  const lane = (name) => {
    const index = packed[`${name}.index`], pause = packed[`${name}.pause`], length = packed[`${name}.length`];
    const start = new Float64Array(index.length), end = new Float64Array(index.length);
    let now = 0;
    for (let i = 0; i < index.length; ++i) {
      start[i] = (now += pause[i]) * timeline.tick;
      end[i] = (now += length[i]) * timeline.tick;
    }
    return { index, start, end };
  };
  const lanes = { calls: lane("calls"), out: lane("out"), in: lane("in") };
  const clock = new Float64Array(program["call.segment"].length + 1);
  clock.set(lanes.calls.start);
  clock[clock.length - 1] = timeline.step;
  const boundary = packed["stall.boundary"], end = new Float64Array(boundary.length);
  const start = end.map((_, i) => clock[boundary[i]] - packed["stall.length"][i] * timeline.tick);
  lanes.stalls = { index: packed["stall.copy"], start, end: end.map((_, i) => clock[boundary[i]]) };
  return { ...timeline, ...lanes, clock };
}

// Addresses [low, high) from boundary `begin` to `end`: residencies first, in the program's order, then each call's
// transients, then fixed memory.
function rectanglesOf({ data, program, calls }) {
  const residencies = program["residency.tensor"].length, fixed = data.fixed.length;
  const count = residencies + calls + fixed;
  const rectangles = {
    count, residencies, begin: new Int32Array(count), end: new Int32Array(count),
    low: new Float64Array(count), high: new Float64Array(count), kind: new Uint8Array(count),
  };
  const set = (i, begin, end, low, bytes, kind) => {
    rectangles.begin[i] = begin;
    rectangles.end[i] = end;
    rectangles.low[i] = low;
    rectangles.high[i] = low + bytes;
    rectangles.kind[i] = kind;
  };
  for (let r = 0; r < residencies; ++r) {
    const tensor = program["residency.tensor"][r], begin = program["residency.begin"][r];
    set(r, begin, begin + program["residency.boundaries"][r], program["residency.offset"][r],
      program["tensor.bytes"][tensor], fixed + program["tensor.class"][tensor]);
  }
  for (let k = 0; k < calls; ++k)
    set(residencies + k, k, k + 1, program["call.workspace"][k], program["call.transients"][k], fixed + data.classes.length);
  data.fixed.forEach(({ offset, bytes }, f) => set(residencies + calls + f, 0, calls, offset, bytes, f));
  return rectangles;
}

// Live bytes at each call: {total, byKind}, computed when first asked for.
function liveBytes(subject) {
  if (subject.live) return subject.live;
  const { rectangles, calls, kinds } = subject;
  const byKind = kinds.map(() => new Float64Array(calls + 1)), total = new Float64Array(calls + 1);
  for (let i = 0; i < rectangles.count; ++i) {
    const bytes = rectangles.high[i] - rectangles.low[i], series = byKind[rectangles.kind[i]];
    series[rectangles.begin[i]] += bytes;
    series[rectangles.end[i]] -= bytes;
  }
  for (const series of byKind)
    for (let k = 0; k <= calls; ++k) {
      if (k > 0) series[k] += series[k - 1];
      total[k] += series[k];
    }
  return (subject.live = { total, byKind });
}

// Bytes in use on a tier at each boundary: an extent is in use from its copy-out to the end of its last copy-in.
function tierBytes(subject, tier) {
  const { program, calls } = subject, first = new Map(), last = new Map();
  for (let c = 0; c < program["copy.residency"].length; ++c) {
    if (program["copy.tier"][c] !== tier) continue;
    const tensor = program["residency.tensor"][program["copy.residency"][c]];
    if (program["copy.direction"][c] === 0) first.set(tensor, first.get(tensor) ?? program["copy.at"][c]);
    else last.set(tensor, Math.max(last.get(tensor) ?? 0, program["copy.before"][c]));
  }
  const series = new Float64Array(calls + 1);
  for (const [tensor, begin] of first) {
    const bytes = Math.ceil(program["tensor.bytes"][tensor] / 4096) * 4096;
    series[begin] += bytes;
    if (last.has(tensor)) series[last.get(tensor)] -= bytes;
  }
  for (let k = 1; k <= calls; ++k) series[k] += series[k - 1];
  return series;
}

// The last i with values[i] <= value, at least 0.
function indexAt(values, value) {
  let low = 0, high = values.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (values[middle] <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

function callName({ data, program }, k) {
  const segment = data.segments[program["call.segment"][k]], phase = program["call.phase"][k];
  const parts = [segment.layered ? `layer ${program["call.layer"][k]}` : null,
    program["call.block"][k] >= 0 ? `block ${program["call.block"][k]}` : null,
    program["call.group"][k] >= 0 ? `group ${program["call.group"][k]}` : null];
  return [`${segment.name} ${phaseNames[phase]}`, ...parts.filter(Boolean)].join(", ");
}

function tensorName({ data, program }, tensor) {
  const grouped = data.groups > 1 ? `, group ${program["tensor.group"][tensor]}` : "";
  return `${data.classes[program["tensor.class"][tensor]].name}, layer ${program["tensor.layer"][tensor]}, ` +
    `block ${program["tensor.block"][tensor]}${grouped}`;
}

function copyName(subject, copy) {
  const { data, program } = subject, out = program["copy.direction"][copy] === 0;
  const tensor = program["residency.tensor"][program["copy.residency"][copy]];
  return `${tensorName(subject, tensor)} ${out ? "to" : "from"} ${data.tiers[program["copy.tier"][copy]].name}`;
}
