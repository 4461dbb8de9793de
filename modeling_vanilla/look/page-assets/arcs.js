// One head large, as arcs: those that look on the left, those that are looked at on the right.

const MOST_ARCS = 1500;

/** The strongest links of a grid, and what share of all its weight they are. */
function links(grid) {
  const all = [];
  for (let row = 0; row < grid.rows; row++)
    for (let column = 0; column < grid.columns; column++) all.push({ row, column, weight: grid.value(row, column) });
  const total = all.reduce((sum, link) => sum + link.weight, 0);
  const kept = all.filter((link) => link.weight >= 0.02 * grid.top && link.weight > 0);
  kept.sort((a, b) => b.weight - a.weight);
  kept.length = Math.min(kept.length, MOST_ARCS);
  return { kept, share: kept.reduce((sum, link) => sum + link.weight, 0) / (total || 1) };
}

/** Show the links of one token alone, or of all. */
function light(picture, side, at) {
  picture.classList.toggle("some", at !== null);
  for (const node of picture.querySelectorAll(".lit")) node.classList.remove("lit");
  if (at !== null) for (const node of picture.querySelectorAll(`[data-${side}="${at}"]`)) node.classList.add("lit");
}

function arcLabels(grid, side, x, anchor, y, room) {
  const [tokens, spansOf] = side === "row" ? [grid.map.rows, grid.rowTokens] : [grid.map.columns, grid.columnTokens];
  const chosen = grid.cellOf(state.row, state.column)[side === "row" ? 0 : 1];
  const rest = () => light(byId("picture").querySelector("svg"), "row", null);
  return spansOf.map((span, at) =>
    draw(
      "text",
      {
        x,
        y: y(at),
        "text-anchor": anchor,
        class: `name${at === chosen ? " chosen" : ""}`,
        [`data-${side}`]: at,
        onpointerenter: () => light(byId("picture").querySelector("svg"), side, at),
        onpointerleave: rest,
        onclick: () => change({ [side]: (side === "row" ? grid.rowCells : grid.columnCells)[at][0] }),
      },
      fit(labelOf(tokens, span), room),
    ),
  );
}

/** Draw the chosen head as arcs into a box. */
function drawArcs(box) {
  const grid = chosenGrid();
  const width = Math.min(box.clientWidth, 680);
  const size = Math.max(grid.rows, grid.columns);
  const height = size * (size <= 40 ? 24 : size <= 100 ? 17 : 13) + 30;
  const room = width < 480 ? 96 : 150;
  const [left, right] = [room + 8, width - room - 8];
  const place = (count) => (at) => 24 + ((at + 0.5) * (height - 30)) / count;
  const [y, yy] = [place(grid.rows), place(grid.columns)];
  const { kept, share } = links(grid);
  const top = largeTop(grid);
  const bend = (right - left) * 0.45;
  const lines = kept.reverse().map(({ row, column, weight }) => {
    const strength = Math.sqrt(Math.min(1, weight / top));
    return draw("path", {
      d: `M${left} ${y(row)}C${left + bend} ${y(row)} ${right - bend} ${yy(column)} ${right} ${yy(column)}`,
      class: "arc",
      "stroke-width": (0.6 + 3.2 * strength).toFixed(2),
      "stroke-opacity": Math.max(0.06, strength * strength).toFixed(3),
      "data-row": row,
      "data-column": column,
      onpointermove: (event) => showTip(event, ...cellLines(grid, row, column)),
      onpointerleave: hideTip,
      onclick: () => chooseCell(grid, row, column),
    });
  });
  const picture = draw(
    "svg",
    {
      class: "arcs",
      width,
      height,
      role: "application",
      tabindex: 0,
      "aria-label": say("matrix_keys", { name: byId("large-title").textContent }),
      onkeydown: (event) => moveCell(event, grid),
    },
    draw("text", { x: left, y: 12, "text-anchor": "end", class: "side" }, say("who_looks")),
    draw("text", { x: right, y: 12, class: "side" }, say("looked_at")),
    lines,
    arcLabels(grid, "row", left - 6, "end", y, room),
    arcLabels(grid, "column", right + 6, "start", yy, room),
  );
  const least = kept.length ? kept[0].weight : 0;
  const note = make("p", { class: "note" }, say("arcs_note", { count: kept.length, least: number(least), share: percent(share) }));
  box.replaceChildren(note, make("div", { class: "scroll tall" }, picture));
}
