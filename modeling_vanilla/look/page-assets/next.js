// The next token at each step of writing: temperature and top-k are recomputed here, from the logits in the file.

const SHOWN = 10;
const ALL = "all";
const CUTS = [1, 2, 3, 4, 5, 8, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200];

/** The step's numbers, unpacked once. */
function stepOf(at) {
  const step = seen.steps[at];
  step.unpacked ??= { logits: floats(step.logits), labels: integers(step.labels), rest: floats(step.rest) };
  return { written: step.written, ...step.unpacked };
}

/** The logsumexp of the other tokens at a temperature: stored, or between four stored ones a cubic in 1 / temperature. */
function restAt(rest, temperature) {
  const stored = seen.temperatures.findIndex((one) => Math.abs(one - temperature) < 1e-9);
  if (stored >= 0) return { value: rest[stored], exact: true };
  const above = seen.temperatures.findIndex((one) => one > temperature);
  const first = Math.min(Math.max(above - 2, 0), rest.length - 4);
  const near = [0, 1, 2, 3].map((offset) => ({ x: 1 / seen.temperatures[first + offset], y: rest[first + offset] }));
  if (!near.every(({ y }) => Number.isFinite(y))) return { value: rest[above], exact: true };
  const x = 1 / temperature;
  const terms = near.map((one) => near.reduce((part, other) => (other === one ? part : (part * (x - other.x)) / (one.x - other.x)), one.y));
  return { value: terms.reduce((a, b) => a + b), exact: false };
}

/** Probabilities of the stored tokens: softmax of logit / temperature over the first k, or over all tokens. */
function probabilities(step, temperature, cut) {
  const kept = cut === ALL ? step.logits.length : Math.min(cut, step.logits.length);
  const scaled = Array.from(step.logits.subarray(0, kept), (logit) => logit / temperature);
  const rest = cut === ALL ? restAt(step.rest, temperature) : { value: -Infinity, exact: true };
  const largest = Math.max(...scaled, rest.value);
  const powers = scaled.map((value) => Math.exp(value - largest));
  const total = powers.reduce((a, b) => a + b, 0) + Math.exp(rest.value - largest);
  return { shares: powers.map((power) => power / total), exact: rest.exact };
}

function slider(name, text, attributes, change) {
  const output = make("output", { for: name });
  const input = make("input", { type: "range", id: name, ...attributes, oninput: () => change(Number(input.value)) });
  return { node: make("div", { class: "slider" }, make("label", { for: name }, text), input, output), input, output };
}

/** Draw the panel once: steps, sliders, and an empty list that `fillNext` fills. */
function drawNext() {
  byId("next").hidden = seen.steps.length === 0;
  if (!seen.steps.length) return;
  const cuts = [...CUTS.filter((cut) => cut < stepOf(0).logits.length), ALL];
  const lowest = seen.temperatures[0];
  const highest = seen.temperatures.at(-1);
  const temperature = slider("temperature", say("temperature"), { min: lowest, max: highest, step: 0.05, value: state.temperature }, (value) => {
    state.temperature = value;
    fillNext(cuts, temperature, cut);
  });
  const cut = slider("cut", say("top_k"), { min: 0, max: cuts.length - 1, step: 1, value: cuts.indexOf(state.cut) }, (value) => {
    state.cut = cuts[value];
    fillNext(cuts, temperature, cut);
  });
  byId("next-content").replaceChildren(
    make("div", { class: "chips", role: "group", "aria-label": say("steps"), id: "steps" }),
    make("div", { class: "sliders" }, temperature.node, cut.node),
    make("p", { class: "note", id: "next-exact", role: "status" }),
    make("ol", { class: "bars", id: "likeliest" }),
    equation(...EQUATIONS.temperature()),
  );
  fillNext(cuts, temperature, cut);
}

function drawSteps(refill) {
  const box = byId("steps");
  const choose = (at) => {
    state.step = at;
    refill();
  };
  box.onkeydown = (event) => {
    const step = arrow(event);
    if (!step) return;
    event.preventDefault();
    choose(within(state.step + step[0] + step[1], seen.steps.length));
  };
  renew(
    box,
    ...seen.steps.map(({ written }, at) =>
      make("button", { type: "button", class: "chip", "aria-pressed": String(at === state.step), tabindex: at === state.step ? 0 : -1, onclick: () => choose(at) }, token(shown(written))),
    ),
  );
  centre(box, box.querySelector("[aria-pressed=true]"));
}

/** Fill the list for the chosen step, temperature and top-k. */
function fillNext(cuts, temperature, cut) {
  drawSteps(() => fillNext(cuts, temperature, cut));
  const step = stepOf(state.step);
  const { shares, exact } = probabilities(step, state.temperature, state.cut);
  temperature.output.textContent = state.temperature.toFixed(2);
  const cutText = state.cut === ALL ? say("all_tokens") : String(state.cut);
  cut.output.textContent = cutText;
  cut.input.setAttribute("aria-valuetext", cutText);
  byId("next-exact").textContent = say(exact ? "exact_softmax" : "approximate");
  const order = shares.map((_, at) => at).slice(0, SHOWN);
  const written = Array.from(step.labels).findIndex((label) => seen.labels[label] === step.written);
  if (written >= SHOWN && written < shares.length) order.push(written);
  const bar = (label, share, chosen, rank) =>
    make(
      "li",
      { class: chosen ? "chosen" : "", "data-share": share },
      make("span", { class: "share-bar", style: { width: `${100 * share}%` } }),
      make("span", { class: "rank" }, rank),
      make("span", { class: "label" }, label, chosen ? make("span", { class: "note" }, ` ${say("written")}`) : null),
      make("span", { class: "percent" }, percent(share)),
    );
  const lines = order.map((at) => bar(token(shown(seen.labels[step.labels[at]])), shares[at], at === written, String(at + 1)));
  const rest = 1 - order.reduce((sum, at) => sum + shares[at], 0);
  if (rest > 5e-5) lines.push(bar(say("other_tokens"), rest, false, ""));
  byId("likeliest").replaceChildren(...lines);
}
