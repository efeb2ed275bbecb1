// A canvas that shows a View: sizes itself, draws when something changed, turns pointer and keys into pan and zoom.

const gutter = () => parseFloat(styleColour("gutter"));
const rightMargin = 12, axisHeight = 22;

class PanCanvas {
  // draw(context, box, fast): box is the plot in CSS pixels; fast while something moves. find(x, y) returns the lines of the tip.
  constructor(parent, { label, height, view, draw, find, addresses = false }) {
    Object.assign(this, { view, draw, find, addresses, height });
    this.canvas = element("canvas", { tabindex: "0", role: "application", "aria-label": label, "aria-describedby": "keys",
      "aria-roledescription": "zoomable picture" });
    parent.replaceChildren(element("div", { class: "picture pan" }, this.canvas));
    this.context = this.canvas.getContext("2d");
    this.pointers = new Map();
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(this.canvas.parentElement);
    this.listen();
  }

  get box() {
    const left = gutter();
    return { left, top: 0, width: Math.max(10, this.canvas.clientWidth - left - rightMargin), height: this.height - axisHeight };
  }

  redraw() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = undefined;
      this.paint(true);
      clearTimeout(this.settled);
      this.settled = setTimeout(() => this.paint(false), 120);
    });
  }

  paint(fast) {
    const scale = fast ? 1 : Math.min(2, devicePixelRatio || 1), { canvas, context } = this;
    canvas.style.height = `${this.height}px`;
    canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = Math.round(this.height * scale);
    if (canvas.width === 0) return;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.fillStyle = styleColour("paper");
    context.fillRect(0, 0, canvas.clientWidth, this.height);
    this.draw(context, this.box, scale);
    this.timeAxis();
    const [from, to] = this.view.time, [low, high] = this.view.address;
    this.canvas.setAttribute("aria-description", `shows ${secondsText(from)} to ${secondsText(to)}` +
      (this.addresses ? `, addresses ${bytesText(low)} to ${bytesText(high)}` : ""));
  }

  timeAxis() {
    const { context, box, view } = this, [from, to] = view.time;
    const marks = ticks(from, to, box.width / 80), labels = tickLabels(marks);
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = styleColour("soft");
    context.strokeStyle = styleColour("line");
    context.textBaseline = "top";
    marks.values.forEach((value, i) => {
      const x = box.left + ((value - from) / (to - from)) * box.width;
      context.beginPath();
      context.moveTo(x, box.height);
      context.lineTo(x, box.height + 4);
      context.stroke();
      const half = context.measureText(labels[i]).width / 2;
      context.textAlign = "center";
      context.fillText(labels[i], Math.min(x, box.left + box.width + rightMargin - half), box.height + 6);
    });
  }

  // Positions as shares (0..1) of the plot.
  place(event) {
    const bounds = this.canvas.getBoundingClientRect(), box = this.box;
    return [(event.clientX - bounds.left - box.left) / box.width, (event.clientY - bounds.top) / box.height];
  }
  tell(event) {
    const bounds = this.canvas.getBoundingClientRect();
    showTip(this.find(event.clientX - bounds.left, event.clientY - bounds.top), event.clientX, event.clientY);
  }

  listen() {
    const on = (name, handler, options) => this.canvas.addEventListener(name, handler, options);
    on("pointerdown", (event) => {
      this.pointers.set(event.pointerId, event);
      this.pressed = event;
      this.canvas.setPointerCapture(event.pointerId);
    });
    on("pointermove", (event) => this.move(event));
    const up = (event) => {
      this.pointers.delete(event.pointerId);
      const moved = Math.hypot(event.clientX - this.pressed.clientX, event.clientY - this.pressed.clientY);
      if (event.type === "pointerup" && moved < 6) this.tell(event);  // a tap asks for the tip
    };
    on("pointerup", up);
    on("pointercancel", up);
    on("pointerleave", (event) => event.pointerType === "mouse" && showTip(null));
    on("blur", () => showTip(null));
    on("dblclick", (event) => this.view.zoom("time", event.shiftKey ? 2 : 0.5, this.place(event)[0]));
    on("wheel", (event) => this.wheel(event), { passive: false });
    on("keydown", (event) => this.key(event));
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.tell(event);
      return;
    }
    showTip(null);
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2) {
      const [a, b] = [...this.pointers.values()];
      const other = a.pointerId === event.pointerId ? b : a;
      const was = Math.abs(before.clientX - other.clientX), is = Math.abs(event.clientX - other.clientX);
      const middle = (this.place(event)[0] + this.place(other)[0]) / 2;
      if (was > 8 && is > 8) this.view.zoom("time", was / is, middle);
      return;
    }
    const box = this.box;
    this.view.pan("time", (before.clientX - event.clientX) / box.width);
    if (this.addresses && event.pointerType !== "touch")
      this.view.pan("address", (event.clientY - before.clientY) / box.height);
  }

  // A plain wheel scrolls the page, unless the picture was clicked or focused.
  wheel(event) {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== this.canvas) return;
    event.preventDefault();
    showTip(null);
    const [x, y] = this.place(event), factor = Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300)));
    if (event.shiftKey && this.addresses) this.view.zoom("address", factor, 1 - y);
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.view.pan("time", event.deltaX / this.box.width);
    else this.view.zoom("time", factor, Math.min(1, Math.max(0, x)));
  }

  key(event) {
    const { view, addresses } = this;
    const actions = {
      ArrowLeft: () => view.pan("time", -0.15), ArrowRight: () => view.pan("time", 0.15),
      ArrowUp: addresses && (() => view.pan("address", 0.15)), ArrowDown: addresses && (() => view.pan("address", -0.15)),
      "+": () => view.zoom("time", 0.6), "=": () => view.zoom("time", 0.6), "-": () => view.zoom("time", 1 / 0.6),
      PageUp: addresses && (() => view.zoom("address", 0.6)), PageDown: addresses && (() => view.zoom("address", 1 / 0.6)),
      0: () => view.reset(), Home: () => view.reset(), Escape: () => showTip(null), Enter: () => this.inspect(),
    };
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (event.key !== "Enter") showTip(null);
    action();
  }

  inspect() {
    const bounds = this.canvas.getBoundingClientRect(), box = this.box;
    const x = box.left + box.width / 2, y = box.height / 2;
    showTip(this.find(x, y) ?? ["Nothing is here"], bounds.left + x, bounds.top + y);
  }
}
