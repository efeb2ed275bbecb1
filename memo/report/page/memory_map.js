// The map of addresses by time, below a strip that shows compute's calls.

const stripHeight = 7, stripGap = 4;

class MemoryMap {
  constructor(parent, view) {
    this.view = view;
    this.canvas = new PanCanvas(parent, {
      label: "Memory map: addresses upwards, time to the right",
      height: Math.max(300, Math.min(460, innerHeight * 0.55)), view, addresses: true,
      draw: (context, box, scale) => this.draw(context, box, scale), find: (x, y) => this.find(x, y),
    });
  }

  show(subject, clock, single) {
    Object.assign(this, { subject, clock, single });
    this.recolour();
  }
  // `single`: the one kind to highlight, or -1.
  recolour() {
    const paper = parseHex(styleColour("paper"));
    this.colours = kindColours(this.subject.kinds).map((colour, kind) =>
      this.single >= 0 && kind !== this.single ? mixed(colour, paper, 0.86) : colour);
    this.canvas.redraw();
  }

  plot(box) {
    return { ...box, top: stripHeight + stripGap, height: box.height - stripHeight - stripGap };
  }

  draw(context, box, scale) {
    if (!this.subject) return;
    const { subject, clock, view, colours } = this, plot = this.plot(box), { begin, end, low, high, kind, count } = subject.rectangles;
    const width = Math.round(box.width * scale), height = Math.round(box.height * scale);
    if (this.raster?.width !== width || this.raster.height !== height) this.raster = new Raster(width, height);
    const raster = this.raster;
    raster.clear();
    const [from, to] = view.time, [bottom, top] = view.address;
    const across = width / (to - from), up = (plot.height * scale) / (top - bottom), floor = box.height * scale;
    const roof = plot.top * scale, labels = [];
    for (let i = 0; i < count; ++i) {
      const x0 = (clock[begin[i]] - from) * across, x1 = (clock[end[i]] - from) * across;
      if (x1 <= 0 || x0 >= width) continue;
      const y0 = Math.max(roof, floor - (high[i] - bottom) * up), y1 = Math.min(floor, floor - (low[i] - bottom) * up);
      if (y1 <= y0) continue;
      raster.add(x0, y0 + gapAfter(y1 - y0, scale), x1 - gapAfter(x1 - x0, scale), y1, colours[kind[i]]);
      if (x1 - x0 > 64 * scale && y1 - y0 > 15 * scale && labels.length < 300) labels.push([i, x0, y0, x1, y1]);
    }
    this.strip(raster, from, across, scale);
    raster.paint(context, Math.round(box.left * scale), 0, parseHex(styleColour("card")));
    for (const [i, ...place] of labels) this.label(context, box, scale, i, place);
    this.addressAxis(context, plot);
    this.marks(context, plot);
  }

  strip(raster, from, across, scale) {
    const { subject, clock } = this, colours = callColours(subject);
    for (let k = 0; k < subject.calls; ++k)
      raster.add((clock[k] - from) * across, 0, (clock[k + 1] - from) * across, stripHeight * scale, colours(k));
  }

  label(context, box, scale, i, [x0, y0, x1, y1]) {
    const { subject, colours } = this, { rectangles, kinds, program } = subject, kind = rectangles.kind[i];
    let text = kinds[kind].name;
    if (i < rectangles.residencies) {
      const tensor = program["residency.tensor"][i];
      text += ` · L${program["tensor.layer"][tensor]} B${program["tensor.block"][tensor]}`;
    }
    const left = Math.max(0, x0 / scale), room = Math.min(box.width, x1 / scale) - left - 10;
    context.font = "11px system-ui, sans-serif";
    if (context.measureText(text).width > room) text = kinds[kind].name;
    if (context.measureText(text).width > room) return;
    const [red, green, blue] = colours[kind];
    context.fillStyle = 0.3 * red + 0.59 * green + 0.11 * blue > 125 ? "#15181c" : "#f4f2ec";
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(text, box.left + left + 5, (y0 + y1) / 2 / scale);
  }

  addressAxis(context, plot) {
    const [bottom, top] = this.view.address, marks = ticks(bottom, top, plot.height / 48, true), labels = tickLabels(marks, true);
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = styleColour("soft");
    context.textAlign = "right";
    marks.values.forEach((value, i) => {
      const y = plot.top + plot.height * (1 - (value - bottom) / (top - bottom));
      context.textBaseline = y > plot.top + plot.height - 6 ? "bottom" : y < plot.top + 6 ? "top" : "middle";
      context.fillText(labels[i], plot.left - 7, y);
    });
  }

  // Lines for the limit, and for the call at which the device holds most.
  marks(context, plot) {
    const { data } = this.subject, [bottom, top] = this.view.address, [from, to] = this.view.time;
    context.lineWidth = 1.5;
    context.font = "600 11.5px system-ui, sans-serif";
    const y = plot.top + plot.height * (1 - (data.limit - bottom) / (top - bottom));
    if (data.limit > 0 && y >= plot.top && y <= plot.top + plot.height) {
      context.strokeStyle = context.fillStyle = styleColour("bad");
      line(context, plot.left, y, plot.left + plot.width, y);
      context.textAlign = "right";
      context.textBaseline = y > plot.top + 16 ? "bottom" : "top";
      context.fillText(`limit ${bytesText(data.limit)}`, plot.left + plot.width - 4, y + (y > plot.top + 16 ? -2 : 3));
    }
    const x = plot.left + ((this.clock[data.peak_at] - from) / (to - from)) * plot.width;
    if (x < plot.left || x > plot.left + plot.width) return;
    context.strokeStyle = context.fillStyle = styleColour("ink");
    context.setLineDash([2, 3]);
    line(context, x, plot.top, x, plot.top + plot.height);
    context.setLineDash([]);
  }

  find(x, y) {
    const { subject, clock, view } = this, plot = this.plot(this.canvas.box);
    if (!subject || x < plot.left || x > plot.left + plot.width || y > plot.top + plot.height) return null;
    const time = view.time[0] + ((x - plot.left) / plot.width) * (view.time[1] - view.time[0]);
    if (time >= clock[subject.calls]) return null;
    const k = Math.min(subject.calls - 1, indexAt(clock, time));
    if (y < plot.top) return [callName(subject, k), `${secondsText(clock[k + 1] - clock[k])} of compute`];
    const address = view.address[0] + (1 - (y - plot.top) / plot.height) * (view.address[1] - view.address[0]);
    const { begin, end, low, high, count } = subject.rectangles;
    for (let i = 0; i < count; ++i)
      if (low[i] <= address && address < high[i] && begin[i] <= k && k < end[i]) return this.lines(i, k);
    return ["Free", `at ${bytesText(address)}, ${secondsText(time)}`];
  }

  lines(i, k) {
    const { subject, clock } = this, { rectangles, data, kinds, program } = subject;
    const { begin, end, low, high, kind, residencies } = rectangles, bytes = high[i] - low[i];
    const where = `${bytesText(bytes)} at ${bytesText(low[i])}`;
    if (i >= residencies + subject.calls) return [kinds[kind[i]].name, where, "all of the step"];
    if (i >= residencies) return ["transients", `of ${callName(subject, k)}`, where, `for ${secondsText(clock[k + 1] - clock[k])}`];
    const copies = copiesOf(subject).get(i) ?? [];
    const first = program["residency.fetched"][i]
      ? `fetched from ${data.tiers[program["copy.tier"][copies[0]]]?.name ?? "a tier"}`
      : `written by ${callName(subject, begin[i])}`;
    const out = copies.find((copy) => program["copy.direction"][copy] === 0);
    return [tensorName(subject, program["residency.tensor"][i]), where, first,
      `stays ${secondsText(clock[end[i]] - clock[begin[i]])}, from ${secondsText(clock[begin[i]])} to ${secondsText(clock[end[i]])}`,
      out === undefined ? `freed before ${end[i] < subject.calls ? callName(subject, end[i]) : "the step's end"}`
        : `leaves for ${data.tiers[program["copy.tier"][out]].name}`];
  }
}

function copiesOf(subject) {
  if (subject.copies) return subject.copies;
  subject.copies = new Map();
  subject.program["copy.residency"].forEach((residency, copy) => {
    const list = subject.copies.get(residency);
    list ? list.push(copy) : subject.copies.set(residency, [copy]);
  });
  return subject.copies;
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}
