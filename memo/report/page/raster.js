// Draws rectangles onto pixels, quickly also where many of them share a pixel.

// The gap behind a rectangle of this width, so that neighbours are apart where there is room: at most a 20th of the width.
const gapAfter = (wide, scale) => (wide > 5 * scale ? Math.min(0.75 * scale, wide / 20) : 0);

// Draws rectangles with exact coverage: a pixel that many small rectangles share gets the mean of their colours, so that 10^5 of
// them look like texture instead of noise. Rectangles of one picture hardly overlap, so the work is bounded by the pixels plus
// the rectangles' edges; no level of detail has to be prepared.
class Raster {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.sums = new Float32Array(width * height * 4);  // red, green, blue, coverage
  }

  clear() {
    this.sums.fill(0);
  }

  // Adds a rectangle in pixels; parts outside are cut off.
  add(x0, y0, x1, y1, [red, green, blue]) {
    x0 = Math.max(0, x0);
    y0 = Math.max(0, y0);
    x1 = Math.min(this.width, x1);
    y1 = Math.min(this.height, y1);
    if (!(x1 > x0 && y1 > y0)) return;
    const left = Math.floor(x0), right = Math.ceil(x1), top = Math.floor(y0), bottom = Math.ceil(y1), sums = this.sums;
    for (let y = top; y < bottom; ++y) {
      const rows = Math.min(y1, y + 1) - Math.max(y0, y);
      let at = (y * this.width + left) * 4;
      for (let x = left; x < right; ++x, at += 4) {
        const share = rows * (Math.min(x1, x + 1) - Math.max(x0, x));
        sums[at] += share * red;
        sums[at + 1] += share * green;
        sums[at + 2] += share * blue;
        sums[at + 3] += share;
      }
    }
  }

  // Draws the sums over the background, at a place of the canvas in device pixels. A rectangle that covers a part of a pixel
  // contributes this part of its colour, so that no time looks longer than it is.
  paint(context, left, top, [red, green, blue]) {
    const image = context.createImageData(this.width, this.height), out = image.data, sums = this.sums;
    for (let i = 0; i < out.length; i += 4) {
      const coverage = sums[i + 3], share = Math.min(1, coverage);
      const scale = coverage > 0 ? share / coverage : 0;
      out[i] = sums[i] * scale + (1 - share) * red;
      out[i + 1] = sums[i + 1] * scale + (1 - share) * green;
      out[i + 2] = sums[i + 2] * scale + (1 - share) * blue;
      out[i + 3] = 255;
    }
    context.putImageData(image, left, top);
  }
}
