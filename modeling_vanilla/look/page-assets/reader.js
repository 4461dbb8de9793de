// The text itself: choose who looks, and see in the colour of every token how much it gets.

/** The chosen row in words: who looks, at what, and how much of its weight each token gets. */
function drawReader() {
  const grid = chosenGrid();
  const map = grid.map;
  const [row, column] = grid.cellOf(state.row, state.column);
  const read = labelOf(map.reads, grid.rowTokens[row]);
  const label = labelOf(map.rows, grid.rowTokens[row]);
  const order = Array.from({ length: grid.columns }, (_, at) => at).sort((a, b) => grid.value(row, b) - grid.value(row, a));
  const sentence = map.kind === "encoder" ? "looks_encoder" : "looks_writer";
  const most = order.slice(0, 3).filter((at) => grid.value(row, at) > 0 && !grid.isHidden(row, at));
  renew(
    byId("reader"),
    make("h3", {}, say("who_looks")),
    rowTokens(grid, row),
    make("h3", {}, ...saying(sentence, { row: token(label), read: token(read) })),
    columnTokens(grid, row, column),
    make(
      "p",
      { class: "note" },
      say("most"),
      ...most.flatMap((at, i) => [i ? ", " : " ", token(labelOf(map.columns, grid.columnTokens[at])), ` ${number(grid.value(row, at))}`]),
      ` · ${say("row_sum", { value: grid.sums[row].toFixed(4) })}`,
    ),
    make("p", { class: "chosen-cell" }, cellLines(grid, row, column).join(" · ")),
  );
  for (const box of byId("reader").querySelectorAll(".chips")) centre(box, box.querySelector("[aria-pressed=true], .chosen"));
}

/** The tokens that look; the chosen one is pressed, the others are reached by arrow keys. */
function rowTokens(grid, chosen) {
  const buttons = grid.rowTokens.map((span, at) =>
    make(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-pressed": String(at === chosen),
        tabindex: at === chosen ? 0 : -1,
        onclick: () => change({ row: grid.rowCells[at][0] }),
      },
      token(labelOf(grid.map.rows, span)),
    ),
  );
  const move = (event) => {
    const step = arrow(event);
    if (!step) return;
    event.preventDefault();
    change({ row: grid.rowCells[within(chosen + step[0] + step[1], grid.rows)][0] });
  };
  return make("div", { class: "chips rows", role: "group", "aria-label": say("who_looks"), onkeydown: move }, buttons);
}

function columnTokens(grid, row, chosen) {
  const top = largeTop(grid);
  const chips = grid.columnTokens.map((span, at) => {
    const hidden = grid.isHidden(row, at);
    const colour = colourOf(grid.value(row, at), top);
    const label = labelOf(grid.map.columns, span);
    return make(
      "span",
      {
        class: `chip shaded${hidden ? " masked" : ""}${at === chosen ? " chosen" : ""}`,
        style: hidden ? {} : { backgroundColor: rgb(colour), color: inkOn(colour) },
        "data-column": at,
        onclick: () => change({ column: grid.columnCells[at][0] }),
        onpointermove: (event) => event.pointerType === "mouse" && showTip(event, ...cellLines(grid, row, at)),
        onpointerleave: hideTip,
      },
      token(label),
    );
  });
  return make("div", { class: "chips columns" }, chips);
}
