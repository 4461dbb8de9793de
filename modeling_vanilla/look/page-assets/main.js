// What is chosen, and what is drawn again when it changes.

const state = {
  language: navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en",
  kind: "",
  layer: 0,
  head: 0,
  row: 0,
  column: 0,
  view: "matrix",
  scale: "own",
  step: 0,
  temperature: 1,
  cut: ALL,
};

const chosenMap = () => maps.find((map) => map.kind === state.kind);
const chosenGrid = () => chosenMap().grid(state.layer, state.head);
const largeTop = (grid) => (state.scale === "own" ? ownTop(grid.map, grid.top) : topOf(grid.map));
const PICTURES = { matrix: drawMatrix, arcs: drawArcs, table: drawTable };

/** Choose something else, and draw what depends on it. */
function change(update) {
  const before = { ...state };
  Object.assign(state, update);
  const same = (...names) => names.every((name) => state[name] === before[name]);
  if (!same("kind", "layer", "head")) markHead();
  drawLarge(same("kind", "layer", "head", "view", "scale"));
  drawReader();
  drawNumbers();
}

/** Choose a kind of attention; a cell is chosen anew, the strongest of its head. */
function chooseKind(kind, update = {}) {
  const map = maps.find((one) => one.kind === kind);
  Object.assign(state, { kind }, strongestHead(map), update);
  Object.assign(state, strongestCell(map.grid(state.layer, state.head)));
  drawKinds();
  drawHeads();
  drawLarge(false);
  drawReader();
  drawNumbers();
}

/** The head that a kind opens with: the one with numbers, else an exact one, else the last layer's first. */
function strongestHead(map) {
  const layers = map.layers.keys();
  const places = [...layers].flatMap((layer) => [...map.heads.keys()].map((head) => ({ layer, head })));
  const numbered = places.find(({ layer, head }) => numbersOf(map.kind, map.layers[layer], map.heads[head]));
  return numbered ?? places.find(({ layer, head }) => map.isExact(layer, head)) ?? { layer: map.layers.length - 1, head: 0 };
}

/** The strongest cell of a head, as a place in the map. */
function strongestCell(grid) {
  const [row, column] = [Math.floor(grid.strongestPlace / grid.columns), grid.strongestPlace % grid.columns];
  return { row: grid.rowCells[row][0], column: grid.columnCells[column][0] };
}

function drawKinds() {
  const box = byId("kinds");
  box.setAttribute("aria-label", say("kinds"));
  const tabs = maps.map(({ kind }) =>
    make("button", { type: "button", role: "tab", id: `tab-${kind}`, "aria-controls": "both", "aria-selected": String(kind === state.kind), tabindex: kind === state.kind ? 0 : -1, onclick: () => chooseKind(kind) }, say(kind)),
  );
  box.onkeydown = (event) => {
    const step = arrow(event);
    if (!step) return;
    event.preventDefault();
    const at = maps.findIndex(({ kind }) => kind === state.kind);
    chooseKind(maps[(at + step[0] + step[1] + maps.length) % maps.length].kind);
  };
  renew(box, ...tabs);
  byId("both").setAttribute("aria-labelledby", `tab-${state.kind}`);
}

/** Draw the chosen head large; where only the cell changed, a matrix moves its cursor alone. */
function drawLarge(onlyCell) {
  const map = chosenMap();
  const grid = chosenGrid();
  const views = ["matrix", "arcs", "table"].map((name) => [name, say(name)]);
  byId("large-title").textContent = `${say(map.kind)} · ${headName(map, state.layer, state.head)}`;
  const detail = grid.exact ? (grid.single ? "detail_exact" : "detail_averaged") : "detail_rounded";
  byId("large-note").textContent = say(detail, { rows: grid.rows, columns: grid.columns, tokens: `${map.rows.length} × ${map.columns.length}` });
  byId("large-note").dataset.exact = String(grid.exact);
  choice(byId("views"), say("view"), views, state.view, (view) => change({ view }));
  if (onlyCell && state.view === "matrix") moveCursor(grid);
  else keepScroll(onlyCell, () => PICTURES[state.view](byId("picture")));
  drawLegend(grid);
}

/** Draw, and where only the cell changed leave the picture scrolled as it was. */
function keepScroll(keep, drawPicture) {
  const box = byId("picture").querySelector(".scroll");
  const [left, top] = [box?.scrollLeft, box?.scrollTop];
  drawPicture();
  if (keep) Object.assign(byId("picture").querySelector(".scroll"), { scrollLeft: left, scrollTop: top });
}

/** The scale of the colours, linear in the weight, with what is said about masks and sums. */
function drawLegend(grid) {
  const top = largeTop(grid);
  const canvas = make("canvas", { width: 256, height: 1, "aria-hidden": "true" });
  const pen = canvas.getContext("2d");
  for (let x = 0; x < 256; x++) {
    pen.fillStyle = rgb(colourOf((x / 255) * top, top));
    pen.fillRect(x, 0, 1, 1);
  }
  const sums = [Math.min(...grid.sums), Math.max(...grid.sums)].map((sum) => sum.toFixed(4));
  byId("legend").replaceChildren(
    make("div", { class: "scale", hidden: state.view === "arcs" }, make("span", {}, "0"), canvas, make("span", { id: "scale-top" }, `${grid.most > top * 1.001 ? "≥ " : ""}${number(top)}`)),
    ...(grid.hidden.some(Boolean) ? [make("span", { class: "hatch-key" }, make("span", { class: "hatch" }), say("hidden_cell"))] : []),
    make("span", { class: "note", id: "sums" }, say("row_sums", { least: sums[0], most: sums[1] })),
  );
}

/** Everything that depends on the language, and then everything else. */
function drawAll() {
  document.documentElement.lang = state.language;
  document.title = say("page_title", { model: seen.model });
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  choice(byId("languages"), say("language"), [["ko", "한국어"], ["en", "English"]], state.language, (language) => {
    state.language = language;
    drawAll();
  });
  byId("model").replaceChildren(make("b", {}, token(shown(seen.model))), ` ${seen.architecture}`);
  const texts = [["read_text", seen.text], ["written_text", seen.target]].filter(([, text]) => text !== null);
  byId("texts").replaceChildren(...texts.flatMap(([name, text]) => [make("dt", {}, say(name)), make("dd", {}, token(shown(text)))]));
  const formula = math("math", EQUATIONS.attention());
  byId("equation").replaceChildren(formula);
  drawKinds();
  drawHeads();
  drawLarge(false);
  drawReader();
  drawNumbers();
  drawNext();
  drawSearch();
}

function open() {
  const exact = maps.find((map) => map.exact.length);
  state.kind = seen.numbers[0]?.kind ?? exact?.kind ?? maps.at(-1).kind;
  const map = chosenMap();
  Object.assign(state, strongestHead(map));
  Object.assign(state, strongestCell(chosenGrid()));
  byId("heads").addEventListener("keydown", moveHead);
  drawAll();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    drawLarge(false);
    drawNumbers();
  });
  dark.addEventListener("change", drawAll);
  document.documentElement.dataset.ready = "";
}

open();
