// All heads of a kind as small pictures: a row for each layer, a column for each head.

/**
 * The weight that a head's own colours end at: its strongest, but at least four equal shares. A head that looks at all
 * tokens alike is then of a middle colour, and does not pass for a strong one.
 */
const ownTop = (map, strongest) => Math.max(strongest, Math.min(1, 4 / map.columns.length));

/** The weight that the colours of all heads of a kind end at. */
const topOf = (map) => ownTop(map, map.tops.reduce((top, value) => Math.max(top, value), 0));

function paintSmall(canvas, map, place) {
  const [rows, columns] = map.small.cells;
  const picture = new ImageData(columns, rows);
  const pixels = picture.data;
  const colours = ramps[dark.matches ? "dark" : "light"];
  // A byte is already the square root of the weight's share in its own picture.
  const top = state.scale === "own" ? ownTop(map, map.tops[place]) : topOf(map);
  const share = Math.sqrt(map.strongest[place] / top);
  const start = place * rows * columns;
  for (let i = 0; i < rows * columns; i++) {
    const [r, g, b] = colours[Math.min(255, Math.round(map.bytes[start + i] * share))];
    pixels.set([r, g, b, map.smallMask[i] ? 0 : 255], 4 * i);
  }
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function headName(map, layer, head) {
  return say("head_name", { layer: map.layers[layer], head: map.heads[head] });
}

function smallButton(map, layer, head) {
  const place = map.place(layer, head);
  const exact = map.isExact(layer, head);
  const canvas = make("canvas", { "aria-hidden": "true" });
  paintSmall(canvas, map, place);
  const numbers = numbersOf(map.kind, map.layers[layer], map.heads[head]);
  const marks = [exact ? say("exact") : null, numbers ? say("has_numbers") : null].filter(Boolean);
  const strongest = say("strongest", { value: number(map.strongest[place]) });
  const name = [headName(map, layer, head), strongest, ...marks].join(", ");
  return make(
    "button",
    {
      type: "button",
      class: `small${exact ? " exact" : ""}${numbers ? " numbers" : ""}`,
      "aria-label": name,
      "data-layer": layer,
      "data-head": head,
      onclick: () => change({ layer, head }),
      onpointermove: (event) => event.pointerType === "mouse" && showTip(event, headName(map, layer, head), strongest, ...marks),
      onpointerleave: hideTip,
    },
    canvas,
  );
}

/** Draw all heads of the kind that is chosen. */
function drawHeads() {
  const map = chosenMap();
  const box = byId("heads");
  box.setAttribute("aria-label", say("all_heads_keys"));
  box.style.setProperty("--heads", map.heads.length);
  const top = make("div", { class: "heads-row", "aria-hidden": "true" }, make("span", { class: "corner" }, say("layer_head")));
  top.append(...map.heads.map((head) => make("span", {}, String(head))));
  const rows = map.layers.map((number, layer) =>
    make(
      "div",
      { class: "heads-row" },
      make("span", { "aria-hidden": "true" }, String(number)),
      map.heads.map((_, head) => smallButton(map, layer, head)),
    ),
  );
  box.replaceChildren(top, ...rows);
  const size = { heads: map.layers.length * map.heads.length, cells: map.small.cells.join(" × ") };
  const notes = [say("overview_note", size), map.exact.length ? say("overview_exact", { exact: map.exact.length }) : ""];
  byId("overview-note").textContent = notes.join(" ");
  choice(byId("scales"), say("scale"), [["own", say("scale_own")], ["one", say("scale_one")]], state.scale, (scale) => {
    change({ scale });
    drawHeads();
  });
  markHead();
}

/** Mark the head that is chosen; it alone is reached by the tab key, the others from it by arrow keys. */
function markHead() {
  for (const button of document.querySelectorAll("#heads button")) {
    const chosen = Number(button.dataset.layer) === state.layer && Number(button.dataset.head) === state.head;
    button.setAttribute("aria-pressed", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
  }
}

/** Move to another layer or head by arrow keys. */
function moveHead(event) {
  const step = arrow(event);
  if (!step) return;
  event.preventDefault();
  const map = chosenMap();
  change({ layer: within(state.layer + step[0], map.layers.length), head: within(state.head + step[1], map.heads.length) });
  document.querySelector("#heads button[aria-pressed=true]").focus();
}
