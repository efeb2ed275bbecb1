// Colours: lines and text have those of the page's style sheet; kinds of memory and streams get theirs here, so that any number
// of tensor classes has distinct ones.

const darkScheme = matchMedia("(prefers-color-scheme: dark)"), printMedia = matchMedia("print");
let printing = false;
const isDark = () => darkScheme.matches && !printing && !printMedia.matches;

// Oklab (Björn Ottosson, 2020): lightness 0..1, chroma, hue in degrees -> [r, g, b] of 0..255.
function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180), b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((linear) => {
    const value = Math.min(1, Math.max(0, linear));
    return Math.round(255 * (value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055));
  });
}
const rgb = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
const parseHex = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
const mixed = (a, b, share) => a.map((value, i) => Math.round(value + (b[i] - value) * share));

function styleColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// One colour per kind: parameters and their state grey, saved tensors cool hues, gradients warm ones, transients pale.
function kindColours(kinds) {
  const dark = isDark(), place = { fixed: 0, saved: 0, gradient: 0 };
  const count = { fixed: 0, saved: 0, gradient: 0 };
  for (const { family } of kinds) if (family in count) ++count[family];
  return kinds.map(({ family }) => {
    if (family === "transients") return dark ? oklch(0.44, 0.012, 90) : oklch(0.84, 0.014, 90);
    const i = place[family]++, share = i / Math.max(1, count[family] - 1), odd = i % 2;
    if (family === "fixed") return oklch((dark ? 0.36 : 0.52) + 0.24 * share, 0.018, 250);
    if (family === "saved") return oklch((dark ? 0.64 : 0.6) + (odd ? 0.11 : 0), 0.115, 165 + 150 * share);
    return oklch((dark ? 0.68 : 0.66) + (odd ? 0.12 : 0), 0.14, 20 + 85 * share);
  });
}

// Colours of streams: calls, copies and waits.
function streamColours() {
  const dark = isDark(), light = dark ? 0.06 : 0;
  return {
    forward: oklch(0.68 + light, 0.1, 240), forwardCore: oklch(0.52 + light, 0.13, 250),
    backward: oklch(0.68 + light, 0.1, 305), backwardCore: oklch(0.52 + light, 0.14, 305),
    rerun: oklch(0.78 + light, 0.13, 80), rerunCore: oklch(0.66 + light, 0.14, 65),
    out: oklch(0.66 + light, 0.1, 175), in: oklch(0.62 + light, 0.11, 140),
    stall: oklch(0.58 + light, 0.2, 27),
  };
}

// Calls `redraw` whenever colours change: scheme, printing.
function onThemeChange(redraw) {
  darkScheme.addEventListener("change", redraw);
  printMedia.addEventListener("change", redraw);
  addEventListener("beforeprint", () => { printing = true; redraw(); });
  addEventListener("afterprint", () => { printing = false; redraw(); });
}
