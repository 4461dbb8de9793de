// Small parts: elements, labels, colours, numbers. Text is set as text; nothing is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";
const dark = matchMedia("(prefers-color-scheme: dark)");

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") Object.assign(node.style, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter(Boolean));
  return node;
}

const make = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

// --- labels -----------------------------------------------------------------------------------------------------

// Characters that are not seen, that turn the text around them, or that are halves. Joiners stay inside a cluster (emoji, Persian).
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb\ud800-\udfff]/gu;
const SIGNS = { "\n": "↵", "\t": "⇥", "\r": "␍" };

/** A token as it can be seen: what is invisible gets a sign or its number. */
function shown(token) {
  if (token === "") return "∅";
  if (/^[ \u00a0]+$/.test(token)) return "␣".repeat(token.length);
  return token.replace(UNSEEN, (sign, at) => {
    if ((sign === "\u200d" || sign === "\u200c") && at > 0 && at < token.length - 1) return sign;
    return SIGNS[sign] ?? `⟨${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/** The label of a span of tokens. */
function labelOf(tokens, [first, last]) {
  return first === last ? shown(tokens[first]) : `${shown(tokens[first])} … ${shown(tokens[last])}`;
}

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });
const ruler = make("canvas").getContext("2d");
const FONT = "system-ui, 'Apple SD Gothic Neo', 'Malgun Gothic', 'Noto Sans KR', 'NanumGothic', sans-serif";

function widthOf(text, size = 12) {
  ruler.font = `${size}px ${FONT}`;
  return ruler.measureText(text).width;
}

/** A label cut to a width in pixels, between characters as a reader sees them, never inside one. */
function fit(text, width, size = 12) {
  if (widthOf(text, size) <= width) return text;
  let cut = "";
  for (const { segment } of graphemes.segment(text)) {
    if (widthOf(`${cut}${segment}…`, size) > width) break;
    cut += segment;
  }
  return `${cut}…`;
}

/** A token in running text: a box of its own, so that its direction stays inside. */
const token = (label, attributes = {}) => make("bdi", { class: "token", ...attributes }, label);

// --- colours ----------------------------------------------------------------------------------------------------

const RAMPS = {
  light: ["#f6f4ee", "#cfdcec", "#86a9dd", "#4a68c0", "#2c2f8f", "#16124d"],
  dark: ["#1d2029", "#263a66", "#3a62a8", "#5f95da", "#a5cbf0", "#fbf7e4"],
};
const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

/** 256 colours from nothing to the strongest, each [r, g, b]. */
function ramp(name) {
  const stops = RAMPS[name].map(channels);
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1);
    const below = Math.min(Math.floor(at), stops.length - 2);
    return stops[below].map((value, c) => Math.round(value + (at - below) * (stops[below + 1][c] - value)));
  });
}

const ramps = { light: ramp("light"), dark: ramp("dark") };

/** The colour of a weight on a scale that ends at `top`: by the square root, which keeps weak weights apart. */
function colourOf(weight, top) {
  const share = top > 0 ? Math.sqrt(Math.min(1, Math.max(0, weight / top))) : 0;
  return ramps[dark.matches ? "dark" : "light"][Math.round(255 * (share || 0))];
}

const rgb = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

/** Black or white, whichever is read more easily on a colour (WCAG 2, relative luminance). */
function inkOn(colour) {
  const [r, g, b] = colour.map((value) => (value <= 10 ? value / 3294 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

// --- numbers ----------------------------------------------------------------------------------------------------

/** Four decimals; very small and very large ones as a power of ten. */
function number(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = size !== 0 && size < 1e-3 ? value.toExponential(2) : size < 1e6 ? value.toFixed(4) : value.toExponential(4);
  return text.replace("-", "−");
}

/** Two digits that count, for the ends of a scale. */
const short = (value) => Number(value.toPrecision(2)).toString().replace("-", "−");

const percent = (share) => `${(100 * share).toFixed(share >= 0.0995 ? 1 : 2)} %`;

/** Put new children into a box; where one of the old had the focus, the new one that is chosen gets it. */
function renew(box, ...children) {
  const focused = box.contains(document.activeElement);
  box.replaceChildren(...children);
  if (focused) box.querySelector("[aria-pressed=true], [aria-selected=true]")?.focus({ preventScroll: true });
}

/** Scroll a box so that one of its children is in the middle; the page stays where it is. */
function centre(box, child) {
  if (child) box.scrollTop = child.offsetTop - (box.clientHeight - child.offsetHeight) / 2;
}

/** A group of buttons of which one is pressed. */
function choice(box, label, options, chosen, choose) {
  box.setAttribute("aria-label", label);
  renew(
    box,
    ...options.map(([name, text]) =>
      make("button", { type: "button", "aria-pressed": String(name === chosen), "data-name": name, onclick: () => choose(name) }, text),
    ),
  );
}

/** Arrow keys as a step [down, right], or null. */
function arrow(event) {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  return event.ctrlKey || event.metaKey || event.altKey ? null : (steps[event.key] ?? null);
}

const within = (value, size) => Math.min(size - 1, Math.max(0, value));

// --- what is said beside the pointer, and aloud -----------------------------------------------------------------

function showTip(event, ...lines) {
  const tip = byId("tip");
  tip.replaceChildren(...lines.map((line) => make("div", {}, line)));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = event.clientX + 14 + width > innerWidth ? event.clientX - 14 - width : event.clientX + 14;
  const top = event.clientY + 18 + height > innerHeight ? event.clientY - 14 - height : event.clientY + 18;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

const hideTip = () => (byId("tip").hidden = true);
const tell = (text) => (byId("spoken").textContent = text);
