// Quantities as people write them.

function bytesText(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0, value = bytes;
  for (; Math.abs(value) >= 1024 && unit + 1 < units.length; ++unit) value /= 1024;
  return `${unit === 0 ? value : digits(value)} ${units[unit]}`;
}

function secondsText(seconds) {
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${digits(seconds * 1e6)} µs`;
  if (size < 1) return `${digits(seconds * 1e3)} ms`;
  if (size < 600) return `${digits(seconds)} s`;
  return size < 36000 ? `${digits(seconds / 60)} min` : `${digits(seconds / 3600)} h`;
}

function digits(value) {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

// null stands for a number that is not finite, which JSON does not have.
function fixedText(value, decimals) {
  return value === null ? "not finite" : value.toFixed(decimals);
}

// The shortest end of a path that no other path shares: its last part, with folders as needed.
function shortName(path, paths) {
  const parts = path.split("/").filter(Boolean);
  for (let count = 1; count < parts.length; ++count) {
    const end = parts.slice(-count).join("/");
    if (paths.filter((other) => other === end || other.replace(/\/+$/, "").endsWith(`/${end}`)).length <= 1) return end;
  }
  return path;
}

const countText = (value) => Math.round(value).toLocaleString("en").replaceAll(",", " ");
const percentText = (share) => `${digits(100 * share)} %`;
const rateText = (bytes, seconds) => (seconds > 0 ? `${digits(bytes / seconds / 1e9)} GB/s` : "");
function errorText(measured, predicted) {
  if (measured === predicted) return "0 %";
  return predicted > 0 ? `${measured > predicted ? "+" : "−"}${Math.abs(100 * (measured / predicted - 1)).toFixed(1)} %` : "";
}

// Round steps so that about `count` ticks fit in [from, to]; powers of 2 times 1, 2, 4 .. for bytes.
function ticks(from, to, count, binary = false) {
  const rough = (to - from) / Math.max(1, count);
  let step;
  if (binary) {
    step = 2 ** Math.ceil(Math.log2(Math.max(1, rough)));
  } else {
    const power = 10 ** Math.floor(Math.log10(rough));
    step = [1, 2, 5, 10].find((k) => k * power >= rough) * power;
  }
  const result = [];
  for (let i = Math.ceil(from / step); i * step <= to; ++i) result.push(i * step);
  return { step, values: result };
}

// Ticks of one axis in one unit, with the decimals that their distance needs.
function tickLabels({ step, values }, binary) {
  const [units, base] = binary ? [["B", "KiB", "MiB", "GiB", "TiB"], 1024] : [["µs", "ms", "s"], 1000];
  const largest = Math.abs(values.at(-1) ?? 0) * (binary ? 1 : 1e6);
  let unit = 0, scale = binary ? 1 : 1e-6;
  for (; unit + 1 < units.length && largest >= base ** (unit + 1); ++unit) scale *= base;
  const decimals = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step / scale) - 1e-9)));
  return values.map((value) => (value === 0 ? "0" : `${(value / scale).toFixed(decimals)} ${units[unit]}`));
}
