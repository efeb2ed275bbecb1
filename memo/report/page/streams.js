// Compute, copy-out and copy-in by time, with stalls: predicted ones, and below them measured ones if the run has them.

const laneHeight = 30, laneGap = 5, groupHead = 20;

// k -> colour of call k.
function callColours({ data, program }) {
  const colours = streamColours();
  const table = data.segments.map(({ core }) => (core ? [colours.forwardCore, colours.backwardCore, colours.rerunCore]
    : [colours.forward, colours.backward, colours.rerun]));
  return (k) => table[program["call.segment"][k]][program["call.phase"][k]];
}

class Streams {
  constructor(parent, view) {
    this.parent = parent;
    this.view = view;
  }

  show(subject) {
    this.subject = subject;
    this.groups = Object.entries(subject.timelines).map(([name, timeline]) => ({ name, timeline }));
    this.canvas?.observer.disconnect();
    this.canvas = new PanCanvas(this.parent, {
      label: "Three streams: compute, copies out and copies in by time", view: this.view,
      height: this.groups.length * (groupHead + 3 * (laneHeight + laneGap)) + axisHeight + 4,
      draw: (context, box, scale) => this.draw(context, box, scale), find: (x, y) => this.find(x, y),
    });
  }

  // Lanes from top to bottom: {name, top, ...spans with a colour each}.
  lanes() {
    const { subject } = this, colours = streamColours(), call = callColours(subject), lanes = [];
    this.groups.forEach(({ name, timeline }, g) => {
      let top = g * (groupHead + 3 * (laneHeight + laneGap)) + groupHead;
      const add = (title, parts) => {
        lanes.push({ title, group: name, top, parts });
        top += laneHeight + laneGap;
      };
      add("compute", [{ ...timeline.calls, colour: call, name: (k) => callName(subject, k) },
        { ...timeline.stalls, colour: () => colours.stall, stall: true, name: (copy) => `Waits for ${copyName(subject, copy)}` }]);
      for (const [title, spans, colour] of [["copy out", timeline.out, colours.out], ["copy in", timeline.in, colours.in]])
        add(title, [{ ...spans, colour: () => colour, copy: true, name: (copy) => copyName(subject, copy) }]);
    });
    return lanes;
  }

  draw(context, box, scale) {
    const width = Math.round(box.width * scale), height = Math.round(box.height * scale), [from, to] = this.view.time;
    if (this.raster?.width !== width || this.raster.height !== height) this.raster = new Raster(width, height);
    this.raster.clear();
    const across = width / (to - from), card = parseHex(styleColour("card")), lanes = this.lanes();
    for (const { top, parts } of lanes)
      for (const { index, start, end, colour, stall } of parts) {
        const first = indexAt(start, from);
        for (let i = first; i < start.length && start[i] < to; ++i) {
          const x0 = (start[i] - from) * across, x1 = (end[i] - from) * across;
          this.raster.add(x0, top * scale, x1 - (stall ? 0 : gapAfter(x1 - x0, scale)), (top + laneHeight) * scale, colour(index[i]));
        }
      }
    this.raster.paint(context, Math.round(box.left * scale), 0, card);
    context.fillStyle = styleColour("paper");  // the page's colour between lanes
    for (const { top, title } of lanes) {
      const head = title === "compute" ? groupHead : laneGap;
      context.fillRect(box.left, top - head, box.width, head);
    }
    const last = lanes.at(-1).top + laneHeight;
    context.fillRect(box.left, last, box.width, box.height - last);
    this.titles(context, box, lanes);
  }

  titles(context, box, lanes) {
    const narrow = box.left < 60;
    for (const { title, top, group } of lanes) {
      context.textBaseline = "middle";
      context.font = "12px system-ui, sans-serif";
      context.fillStyle = styleColour("soft");
      context.textAlign = "right";
      context.fillText(narrow ? { compute: "comp.", "copy out": "out", "copy in": "in" }[title] : title, box.left - 7, top + laneHeight / 2);
      if (title !== "compute") continue;
      context.font = "600 12px system-ui, sans-serif";
      context.fillStyle = styleColour("ink");
      context.textAlign = "left";
      context.fillText(group, box.left, top - groupHead / 2 + 1);
    }
  }

  find(x, y) {
    const box = this.canvas.box, [from, to] = this.view.time;
    const time = from + ((x - box.left) / box.width) * (to - from);
    const lane = this.lanes().find(({ top }) => top <= y && y < top + laneHeight);
    if (!lane || x < box.left || x > box.left + box.width) return null;
    const near = (to - from) / box.width;  // half a pixel to either side
    for (const { index, start, end, name, copy, stall } of [...lane.parts].reverse()) {
      if (start.length === 0) continue;
      const i = indexAt(start, time);
      if (time < start[i] || time > Math.max(end[i], start[i] + near)) continue;
      const seconds = end[i] - start[i], lines = [name(index[i]), `${secondsText(seconds)}, from ${secondsText(start[i])}`];
      if (copy) lines.push(this.copied(index[i], seconds));
      return [...lines, `${lane.group}, ${stall ? "stall" : lane.title}`];
    }
    return null;
  }

  copied(copy, seconds) {
    const { program } = this.subject;
    const bytes = program["tensor.bytes"][program["residency.tensor"][program["copy.residency"][copy]]];
    return `${bytesText(bytes)}, ${rateText(bytes, seconds)}`;
  }
}

function streamsLegend(subject) {
  const colours = streamColours();
  const chip = (colour, text) => element("span", { class: "chip" }, element("i", { style: `background:${rgb(colour)}` }), text);
  const again = subject.program["call.phase"].includes(2);
  return [chip(colours.forward, "forward"), chip(colours.forwardCore, "its attention"), chip(colours.backward, "backward"),
    chip(colours.backwardCore, "its attention"), again ? chip(colours.rerun, "reruns") : null,
    chip(colours.out, "copy out"), chip(colours.in, "copy in"), chip(colours.stall, "stall")].filter(Boolean);
}
