// One head large, as a matrix: a row for each token that looks, a column for each that is looked at.

const SLANT = Math.PI / 3;

/** Where everything of a matrix goes, in pixels, for a box of a width. */
function matrixPlan(grid, width) {
  const names = grid.rowTokens.map((span) => labelOf(grid.map.rows, span));
  const heads = grid.columnTokens.map((span) => labelOf(grid.map.columns, span));
  const most = width < 480 ? 64 : 110;
  const left = Math.min(most, Math.max(...names.map((name) => widthOf(name)))) + 10;
  const right = 46;
  // Cells of a text of a few dozen tokens stay wide enough for their labels; the box scrolls where that is too wide.
  const least = grid.columns <= 64 ? 12 : 1;
  const cellWidth = Math.max(least, Math.min(34, (width - left - right) / grid.columns));
  const cellHeight = Math.max(grid.rows <= 64 ? 15 : 2, Math.min(cellWidth, 34, 900 / grid.rows));
  // Labels that are wider than their columns stand slanted above them: those alone where they are few, else all.
  const wide = heads.map((name) => widthOf(name) > cellWidth);
  const mostly = wide.filter(Boolean).length > heads.length / 4;
  const slanted = wide.map((one) => one || mostly);
  const longest = Math.max(0, ...heads.map((name, at) => (slanted[at] ? widthOf(fit(name, 100)) : 0)));
  const top = Math.max(24, longest * Math.sin(SLANT) + 16);
  const overhang = Math.max(0, longest * Math.cos(SLANT) - right);
  return { names, heads, slanted, left, top, cellWidth, cellHeight, right, overhang, most };
}

/** Paint the cells; where a mask forbids looking, the paper is hatched instead. */
function paintCells(canvas, grid, plan, top) {
  const density = Math.min(3, devicePixelRatio || 1);
  const [width, height] = [plan.cellWidth * grid.columns, plan.cellHeight * grid.rows];
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  Object.assign(canvas.style, { left: `${plan.left}px`, top: `${plan.top}px`, width: `${width}px`, height: `${height}px` });
  const pen = canvas.getContext("2d");
  const x = (column) => Math.round((column * canvas.width) / grid.columns);
  const y = (row) => Math.round((row * canvas.height) / grid.rows);
  const hatch = new Path2D();
  for (let row = 0; row < grid.rows; row++)
    for (let column = 0; column < grid.columns; column++) {
      const cell = [x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row)];
      if (grid.isHidden(row, column)) hatch.rect(...cell);
      else {
        pen.fillStyle = rgb(colourOf(grid.value(row, column), top));
        pen.fillRect(...cell);
      }
    }
  pen.save();
  pen.clip(hatch);
  pen.strokeStyle = getComputedStyle(document.body).getPropertyValue("--hatch");
  pen.lineWidth = density;
  pen.beginPath();
  for (let at = 0; at < canvas.width + canvas.height; at += 6 * density) {
    pen.moveTo(at, 0);
    pen.lineTo(at - canvas.height, canvas.height);
  }
  pen.stroke();
  pen.restore();
}

/** The labels of rows and columns, as many as there is room for, and the sum of each row. */
function matrixLabels(grid, plan) {
  const everyRow = Math.ceil(12 / plan.cellHeight);
  const everyColumn = Math.ceil(12 / plan.cellWidth);
  const end = plan.left + plan.cellWidth * grid.columns;
  const labels = [draw("text", { x: end + 8, y: plan.top - 8, class: "sum" }, "Σ")];
  plan.names.forEach((name, row) => {
    if (row % everyRow) return;
    const y = plan.top + plan.cellHeight * (row + 0.5);
    labels.push(draw("text", { x: plan.left - 6, y, "text-anchor": "end", class: "row", "data-row": row }, fit(name, plan.most)));
    labels.push(draw("text", { x: end + 8, y, class: "sum" }, grid.sums[row].toFixed(2)));
  });
  plan.heads.forEach((name, column) => {
    if (column % everyColumn) return;
    const x = plan.left + plan.cellWidth * (column + 0.5);
    const y = plan.top - 8;
    const turn = plan.slanted[column] ? { transform: `rotate(-60 ${x} ${y})` } : { "text-anchor": "middle" };
    labels.push(draw("text", { x, y, class: "column", "data-column": column, ...turn }, fit(name, 100)));
  });
  return labels;
}

/** Lines between cells that are large enough to be told apart. */
function gridLines(grid, plan) {
  if (plan.cellWidth < 9) return [];
  const [width, height] = [plan.cellWidth * grid.columns, plan.cellHeight * grid.rows];
  const across = Array.from({ length: grid.rows + 1 }, (_, i) => `M${plan.left} ${plan.top + i * plan.cellHeight}h${width}`);
  const down = Array.from({ length: grid.columns + 1 }, (_, i) => `M${plan.left + i * plan.cellWidth} ${plan.top}v${height}`);
  return [draw("path", { class: "lines", d: across.join("") + down.join("") })];
}

/** The frame around the cell that is chosen, and faint bands along its row and column. */
function matrixCursor(grid, plan) {
  const [row, column] = grid.cellOf(state.row, state.column);
  const [x, y] = [plan.left + column * plan.cellWidth, plan.top + row * plan.cellHeight];
  const [width, height] = [plan.cellWidth * grid.columns, plan.cellHeight * grid.rows];
  const room = (size) => Math.max(size, 4);
  return draw(
    "g",
    { class: "cursor" },
    draw("rect", { class: "band", x: plan.left, y, width, height: plan.cellHeight }),
    draw("rect", { class: "band", x, y: plan.top, width: plan.cellWidth, height }),
    draw("rect", { class: "cell", x: x - 1, y: y - 1, width: room(plan.cellWidth + 2), height: room(plan.cellHeight + 2), rx: 2 }),
  );
}

/** Move the frame to the chosen cell of the matrix that is drawn. */
function moveCursor(grid) {
  const plan = matrixPlan(grid, byId("picture").clientWidth);
  byId("picture").querySelector(".cursor").replaceWith(matrixCursor(grid, plan));
}

/** What a cell says: both tokens and its weight. */
function cellLines(grid, row, column) {
  const names = { row: labelOf(grid.map.rows, grid.rowTokens[row]), column: labelOf(grid.map.columns, grid.columnTokens[column]) };
  const weight = grid.isHidden(row, column) ? say("hidden_cell") : say("weight", { value: number(grid.value(row, column)) });
  return [say("cell", names), weight, grid.exact && grid.single ? null : say(grid.single ? "rounded" : "mean")].filter(Boolean);
}

function chooseCell(grid, row, column) {
  change({ row: grid.rowCells[row][0], column: grid.columnCells[column][0] });
}

/** Draw the chosen head as a matrix into a box. */
function drawMatrix(box) {
  const grid = chosenGrid();
  const plan = matrixPlan(grid, box.clientWidth);
  const width = plan.left + plan.cellWidth * grid.columns + plan.right + plan.overhang;
  const height = plan.top + plan.cellHeight * grid.rows + 6;
  const canvas = make("canvas", { "aria-hidden": "true" });
  const at = (event) => {
    const edge = frame.getBoundingClientRect();
    const row = Math.floor((event.clientY - edge.top - plan.top) / plan.cellHeight);
    const column = Math.floor((event.clientX - edge.left - plan.left) / plan.cellWidth);
    return row >= 0 && row < grid.rows && column >= 0 && column < grid.columns ? [row, column] : null;
  };
  const frame = make(
    "div",
    {
      class: "matrix",
      role: "application",
      tabindex: 0,
      "aria-label": say("matrix_keys", { name: byId("large-title").textContent }),
      style: { width: `${width}px`, height: `${height}px` },
      onpointermove: (event) => {
        const cell = event.pointerType === "mouse" && at(event);
        if (cell) showTip(event, ...cellLines(grid, ...cell));
        else hideTip();
      },
      onpointerleave: hideTip,
      onclick: (event) => at(event) && chooseCell(grid, ...at(event)),
      onkeydown: (event) => moveCell(event, grid),
    },
    canvas,
    draw("svg", { width, height, "aria-hidden": "true" }, gridLines(grid, plan), matrixLabels(grid, plan), matrixCursor(grid, plan)),
  );
  box.replaceChildren(make("div", { class: "scroll" }, frame));
  paintCells(canvas, grid, plan, largeTop(grid));
}

/** Move the chosen cell by arrow keys, and say what it holds. */
function moveCell(event, grid) {
  const step = arrow(event);
  if (!step) return;
  event.preventDefault();
  const [row, column] = grid.cellOf(state.row, state.column);
  const next = [within(row + step[0], grid.rows), within(column + step[1], grid.columns)];
  chooseCell(grid, ...next);
  tell(cellLines(grid, ...next).join(", "));
  document.querySelector("#picture [tabindex='0']").focus({ preventScroll: true });
}
