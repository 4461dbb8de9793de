// One head large, as a table of numbers: for those who cannot hover, and for those who want to read.

const MOST_CELLS = 6000;

/** Draw the chosen head as a table into a box: all rows, or a band around the chosen one where they are many. */
function drawTable(box) {
  const grid = chosenGrid();
  const [chosenRow, chosenColumn] = grid.cellOf(state.row, state.column);
  const band = Math.max(1, Math.min(grid.rows, Math.floor(MOST_CELLS / grid.columns)));
  const first = Math.floor(chosenRow / band) * band;
  const last = Math.min(grid.rows, first + band);
  const heads = grid.columnTokens.map((span) => make("th", { scope: "col" }, token(labelOf(grid.map.columns, span))));
  const body = [];
  for (let row = first; row < last; row++) {
    const cells = [make("th", { scope: "row" }, token(labelOf(grid.map.rows, grid.rowTokens[row])))];
    for (let column = 0; column < grid.columns; column++) cells.push(tableCell(grid, row, column, row === chosenRow && column === chosenColumn));
    cells.push(make("td", { class: "sum" }, grid.sums[row].toFixed(4)));
    body.push(make("tr", {}, cells));
  }
  const table = make(
    "table",
    { class: "weights" },
    make("caption", { class: "unseen" }, byId("large-title").textContent),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, say("row_column")), heads, make("th", { scope: "col" }, say("sum")))),
    make("tbody", {}, body),
  );
  const step = (to) => change({ row: grid.rowCells[to][0] });
  const pages = make(
    "div",
    { class: "switch" },
    make("button", { type: "button", disabled: first === 0, onclick: () => step(first - 1) }, say("rows_before")),
    make("span", { class: "note" }, say("rows_of", { first: first + 1, last, all: grid.rows })),
    make("button", { type: "button", disabled: last === grid.rows, onclick: () => step(last) }, say("rows_after")),
  );
  box.replaceChildren(...(band < grid.rows ? [pages] : []), make("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": byId("large-title").textContent }, table));
}

function tableCell(grid, row, column, chosen) {
  const hidden = grid.isHidden(row, column);
  const colour = colourOf(grid.value(row, column), largeTop(grid));
  const style = hidden ? {} : { backgroundColor: rgb(colour), color: inkOn(colour) };
  const text = hidden ? "–" : grid.value(row, column).toFixed(4);
  return make("td", { class: `${hidden ? "masked" : ""}${chosen ? " chosen" : ""}`, style, onclick: () => chooseCell(grid, row, column) }, text);
}
