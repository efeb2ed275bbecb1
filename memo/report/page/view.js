// The part of the step that the pictures show: one time axis for all of them, one address axis for the map.
class View {
  constructor(seconds, bytes) {
    this.full = { time: [0, seconds], address: [0, bytes] };
    this.time = [0, seconds];
    this.address = [0, bytes];
    this.listeners = [];
  }

  onChange(listener) {
    this.listeners.push(listener);
  }
  changed() {
    for (const listener of this.listeners) listener();
  }

  // Zooms around the point at `share` (0..1) of the axis; a factor < 1 shows less.
  zoom(axis, factor, share = 0.5) {
    const [low, high] = this[axis], [first, last] = this.full[axis];
    const centre = low + share * (high - low);
    const span = Math.min(last - first, Math.max((last - first) * 1e-6, (high - low) * factor));
    this.place(axis, centre - share * span, span);
  }
  // Moves by a share of the visible range.
  pan(axis, share) {
    const [low, high] = this[axis];
    this.place(axis, low + share * (high - low), high - low);
  }
  place(axis, low, span) {
    const [first, last] = this.full[axis];
    const start = Math.min(Math.max(first, low), last - span);
    this[axis] = [start, start + span];
    this.changed();
  }
  reset() {
    this.time = [...this.full.time];
    this.address = [...this.full.address];
    this.changed();
  }
}
