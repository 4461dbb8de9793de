// The numbers behind a cell: from the query and the key of one pair of tokens to what the pair adds to the output.

const numbersOf = (kind, layer, head) => seen.numbers.find((one) => one.kind === kind && one.layer === layer && one.head === head);

/** The vectors of one head, unpacked once. */
function vectors(numbers) {
  numbers.unpacked ??= {
    queries: floats(numbers.queries),
    keys: floats(numbers.keys),
    values: floats(numbers.values),
    bias: numbers.bias && floats(numbers.bias),
  };
  const { queries, keys, values, bias } = numbers.unpacked;
  const [width, wide] = [numbers.width, numbers.value_width];
  const size = keys.length / width;
  return {
    size,
    query: (row) => queries.subarray(row * width, (row + 1) * width),
    key: (column) => keys.subarray(column * width, (column + 1) * width),
    value: (column) => values.subarray(column * wide, (column + 1) * wide),
    bias: (row, column) => (bias ? bias[row * size + column] : 0),
  };
}

/** All of one row: products, scores before and after the mask, and weights (eq. 1). */
function rowOf(numbers, map, row) {
  const of = vectors(numbers);
  const query = of.query(row);
  const columns = Array.from({ length: of.size }, (_, column) => column);
  const products = columns.map((column) => of.key(column).reduce((sum, value, d) => sum + value * query[d], 0));
  const scores = products.map((product, column) => product * numbers.scaling + of.bias(row, column));
  const hidden = columns.map((column) => map.hidden[row * map.cells[1] + column] === 1);
  const largest = Math.max(...scores.filter((_, column) => !hidden[column]));
  const powers = scores.map((score, column) => (hidden[column] ? 0 : Math.exp(score - largest)));
  const total = powers.reduce((a, b) => a + b, 0);
  const weights = powers.map((power) => power / total);
  return { products, scores, hidden, largest, powers, total, weights };
}

/** What the weights of a row add up to: the sum of weight times value. */
function contextOf(numbers, weights) {
  const of = vectors(numbers);
  const context = new Float64Array(numbers.value_width);
  weights.forEach((weight, column) => of.value(column).forEach((value, d) => (context[d] += weight * value)));
  return context;
}

/** Bars of one vector, in a band that starts at `y`: up for what is positive, from `range` = [least, most]. */
function bars(values, y, height, left, step, range) {
  const [least, most] = range;
  const unit = (height - 8) / (most - least || 1);
  const zero = y + 4 + most * unit;
  const rects = Array.from(values, (value, d) =>
    draw("rect", {
      x: left + d * step + step * 0.1,
      y: value < 0 ? zero : zero - value * unit,
      width: step * 0.8,
      height: Math.max(Math.abs(value) * unit, 0.5),
      class: value < 0 ? "negative" : "positive",
    }),
  );
  return [draw("path", { class: "zero", d: `M${left} ${zero}h${step * values.length}` }), ...rects];
}

/** Bars for each dimension, one band for each vector; a dimension's numbers stand beside the pointer. */
function dimensionChart(series, { common = false } = {}) {
  const [left, band, width] = innerWidth < 560 ? [72, 60, 330] : [92, 64, 640];
  const step = (width - left) / series[0].values.length;
  const rangeOf = (values) => values.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [0, 0]);
  const all = rangeOf(series.flatMap(({ values }) => Array.from(values)));
  const bands = series.flatMap(({ name, values }, at) => {
    const range = common ? all : rangeOf(values);
    return [
      draw("text", { x: 0, y: at * band + band / 2 - 8, class: "vector" }, name),
      draw("text", { x: 0, y: at * band + band / 2 + 9, class: "range" }, `${short(range[0])} … ${short(range[1])}`),
      ...bars(values, at * band, band, left, step, range),
    ];
  });
  const show = (event) => {
    const edge = picture.getBoundingClientRect();
    const d = Math.floor((((event.clientX - edge.left) / edge.width) * width - left) / step);
    if (d < 0 || d >= series[0].values.length) return hideTip();
    showTip(event, say("dimension", { d }), ...series.map(({ name, values }) => `${name} = ${number(values[d])}`));
  };
  const names = series.map(({ name }) => name).join(", ");
  const picture = draw(
    "svg",
    {
      class: "dimensions",
      viewBox: `0 0 ${width} ${series.length * band}`,
      role: "img",
      "aria-label": say("chart", { names, count: series[0].values.length }),
      onpointermove: show,
      onpointerdown: show,
      onpointerleave: hideTip,
    },
    bands,
  );
  return make("div", {}, picture, dimensionTable(series));
}

/** The same numbers as a table. */
function dimensionTable(series) {
  const box = make("details", {}, make("summary", {}, say("as_table")));
  box.addEventListener("toggle", () => {
    if (!box.open || box.children.length > 1) return;
    const head = make("tr", {}, make("th", { scope: "col" }, say("dimension_head")), series.map(({ name }) => make("th", { scope: "col" }, name)));
    const rows = Array.from(series[0].values, (_, d) => make("tr", {}, make("th", { scope: "row" }, String(d)), series.map(({ values }) => make("td", {}, number(values[d])))));
    box.append(make("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": say("as_table") }, make("table", { class: "plain" }, make("thead", {}, head), make("tbody", {}, rows))));
  });
  return box;
}

/** One step: on one side its title, its equation and what it says here, on the other its picture. */
function stage(title, formula, texts, picture = null) {
  return make("li", {}, make("div", { class: "telling" }, make("h3", {}, title), equation(...formula), ...texts), picture);
}

/** A line with one result that can be read, and copied. */
const result = (name, text) => make("p", { class: "result", "data-result": name }, text);

/** The softmax over the row, as a table: all columns of a short row, the strongest of a long one. */
function softmaxTable(map, row, chosen) {
  const order = row.weights.map((_, column) => column);
  const strongest = order.filter((column) => !row.hidden[column]).sort((a, b) => row.weights[b] - row.weights[a]);
  const kept = new Set(order.length <= 24 ? order : strongest.slice(0, 14));
  kept.add(chosen);
  const rest = order.filter((column) => !kept.has(column));
  const line = (column) => {
    const weight = row.weights[column];
    const numbers = row.hidden[column] ? ["−∞", "0"] : [number(row.scores[column]), number(row.powers[column])];
    return make(
      "tr",
      { class: column === chosen ? "chosen" : "", onclick: () => change({ column }) },
      make("th", { scope: "row" }, token(shown(map.columns[column]))),
      numbers.map((text) => make("td", {}, text)),
      make("td", {}, number(weight)),
      make("td", { class: "share" }, make("span", { class: "share-bar", style: { width: `${100 * weight}%` } })),
    );
  };
  const others = rest.length ? [make("tr", {}, make("th", { scope: "row", colspan: 3 }, say("others", { count: rest.length })), make("td", {}, number(rest.reduce((sum, column) => sum + row.weights[column], 0))), make("td"))] : [];
  const heads = [say("token"), "s", "exp(s − max s)", "α", ""].map((text) => make("th", { scope: "col" }, text));
  return make("div", { class: "scroll" }, make("table", { class: "plain softmax" }, make("thead", {}, make("tr", {}, heads)), make("tbody", {}, [...kept].sort((a, b) => a - b).map(line), others)));
}

function scaleStage(numbers, product) {
  const width = numbers.width;
  const score = product * numbers.scaling;
  const usual = Math.abs(numbers.scaling * Math.sqrt(width) - 1) < 1e-6;
  const formula = usual ? EQUATIONS.scaled() : numbers.scaling === 1 ? EQUATIONS.plain() : EQUATIONS.factor();
  const text = say(usual ? "scale_usual" : numbers.scaling === 1 ? "scale_none" : "scale_factor", { width, factor: number(numbers.scaling) });
  const sum = usual ? `${number(product)} / √${width} = ${number(score)}` : `${number(product)} × ${number(numbers.scaling)} = ${number(score)}`;
  return stage(say("step_scale"), formula, [make("p", {}, text), result("scaled", sum)]);
}

function biasStage(numbers, scaled, bias) {
  const sum = `${number(scaled)} + ${number(bias)} = ${number(scaled + bias)}`;
  return stage(say("step_bias"), EQUATIONS.biased(), [make("p", {}, say("bias")), result("biased", sum)]);
}

function maskStage(hidden, column) {
  const count = hidden.filter(Boolean).length;
  const text = make("p", {}, say(count ? "mask_some" : "mask_none", { count, all: hidden.length }));
  return stage(say("step_mask"), EQUATIONS.masked(), hidden[column] ? [text, result("masked", say("mask_here"))] : [text]);
}

/** All steps of the chosen cell. */
function stages(numbers, map, at) {
  const of = vectors(numbers);
  const row = rowOf(numbers, map, at.row);
  const [query, key, value] = [of.query(at.row), of.key(at.column), of.value(at.column)];
  const terms = Float32Array.from(query, (one, d) => one * key[d]);
  const [product, weight] = [row.products[at.column], row.weights[at.column]];
  const names = () => ({ row: token(shown(map.rows[at.row])), read: token(shown(map.reads[at.row])), column: token(shown(map.columns[at.column])) });
  const asks = map.kind === "encoder" ? "vectors_encoder" : "vectors_writer";
  const share = `α = ${number(row.powers[at.column])} / ${number(row.total)} = ${number(weight)}`;
  const values = [{ name: "v", values: value }, { name: "α v", values: value.map((one) => weight * one) }, { name: "Σ α v", values: contextOf(numbers, row.weights) }];
  const list = [
    stage(
      say("step_vectors"),
      EQUATIONS.project(),
      [make("p", {}, ...saying(asks, names(), { width: numbers.width }))],
      dimensionChart([{ name: "q", values: query }, { name: "k", values: key }]),
    ),
    stage(
      say("step_product"),
      EQUATIONS.product(),
      [make("p", {}, say("product")), result("product", `q · k = ${number(product)}`)],
      dimensionChart([{ name: "q × k", values: terms }]),
    ),
    scaleStage(numbers, product),
    numbers.bias && biasStage(numbers, product * numbers.scaling, of.bias(at.row, at.column)),
    maskStage(row.hidden, at.column),
    stage(say("step_softmax"), EQUATIONS.softmax(), [make("p", {}, say("softmax")), result("weight", share)], softmaxTable(map, row, at.column)),
    stage(say("step_value"), EQUATIONS.value(), [make("p", {}, ...saying("value", names()))], dimensionChart(values, { common: true })),
  ];
  return make("ol", { class: "stages" }, list);
}

/** Draw the numbers of the chosen cell, or the way to a head that has numbers. */
function drawNumbers() {
  byId("numbers").hidden = seen.numbers.length === 0;
  if (!seen.numbers.length) return;
  const map = chosenMap();
  const numbers = numbersOf(map.kind, map.layers[state.layer], map.heads[state.head]);
  const box = byId("numbers-content");
  if (!numbers || map.averaged) {
    const whole = seen.numbers.filter((one) => maps.some((other) => other.kind === one.kind && !other.averaged));
    const ways = whole.map((one) => make("button", { type: "button", onclick: () => goTo(one) }, `${say(one.kind)} · ${say("head_name", one)}`));
    box.replaceChildren(make("p", {}, say(ways.length ? "numbers_elsewhere" : "numbers_long")), make("div", { class: "switch ways" }, ways));
    return;
  }
  const at = { row: state.row, column: state.column };
  const where = { row: token(shown(map.rows[at.row])), column: token(shown(map.columns[at.column])) };
  box.replaceChildren(make("p", {}, ...saying("numbers_of", where, { name: `${say(map.kind)} · ${headName(map, state.layer, state.head)}` })), stages(numbers, map, at));
}

/** Choose a head by its numbers in the model. */
function goTo({ kind, layer, head }) {
  const map = maps.find((other) => other.kind === kind);
  chooseKind(kind, { layer: map.layers.indexOf(layer), head: map.heads.indexOf(head) });
}
