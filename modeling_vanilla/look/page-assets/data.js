// What the file holds, decoded, and one way to ask for the weights of a head at the detail that is there.

const seen = JSON.parse(document.getElementById("view").textContent);

function bytes(packed) {
  const raw = atob(packed);
  const values = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) values[i] = raw.charCodeAt(i);
  return values;
}

const floats = (packed) => new Float32Array(bytes(packed).buffer);
const integers = (packed) => new Int32Array(bytes(packed).buffer);

/** 16-bit floats (IEEE 754), which not every browser has as an array of its own. */
function halves(packed) {
  return Float32Array.from(new Uint16Array(bytes(packed).buffer), (bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
  });
}

/** [first, last] of the members in each of `parts` equal blocks of `size`; the last block may be smaller. */
function spans(parts, size) {
  const block = Math.ceil(size / parts);
  return Array.from({ length: parts }, (_, i) => [i * block, Math.min(size, (i + 1) * block) - 1]);
}

const FEW = 3;

/** The rows that have a choice: one that sees a few cells only, as the first of a decoder do, has large weights anyway. */
function choosingRows(mask, rows, columns) {
  const all = Array.from({ length: rows }, (_, row) => row);
  const sees = (row) => mask.subarray(row * columns, (row + 1) * columns).reduce((count, hidden) => count + 1 - hidden, 0);
  const choosing = all.filter((row) => sees(row) > FEW);
  return choosing.length ? choosing : all;
}

/** The place of the largest of some rows of a grid. */
function largestOf(values, rows, columns) {
  let best = rows[0] * columns;
  for (const row of rows)
    for (let place = row * columns; place < (row + 1) * columns; place++) if (values[place] > values[best]) best = place;
  return best;
}

/** The map of one kind. Layers and heads are asked for by their place in `layers` and `heads`. */
class AttentionMap {
  constructor(data) {
    Object.assign(this, data);
    this.bytes = bytes(data.small.bytes);
    this.strongest = floats(data.small.strongest);
    this.sums = floats(data.sums);
    this.hidden = bytes(data.hidden);
    this.averaged = data.cells[0] !== data.rows.length || data.cells[1] !== data.columns.length;
    this.grids = new Map();
    this.masks = new Map();
    const [rows, columns] = data.small.cells;
    const shape = { rows, columns, rowCells: spans(rows, data.cells[0]), columnCells: spans(columns, data.cells[1]) };
    this.smallMask = this.hiddenCells(shape);
    this.choosing = choosingRows(this.smallMask, rows, columns);
    // The strongest weight of each small picture among the rows that have a choice.
    this.tops = this.strongest.map((strongest, place) => {
      const picture = this.bytes.subarray(place * rows * columns, (place + 1) * rows * columns);
      return strongest * (picture[largestOf(picture, this.choosing, columns)] / 255) ** 2;
    });
  }

  place(layer, head) {
    return layer * this.heads.length + head;
  }

  isExact(layer, head) {
    return this.exact.some((one) => one.layer === this.layers[layer] && one.head === this.heads[head]);
  }

  /** Which cells of a grid stand for pairs that a mask forbids, all of them; the same for all heads. */
  hiddenCells(grid) {
    const key = `${grid.rows} ${grid.columns}`;
    if (!this.masks.has(key)) {
      const mask = new Uint8Array(grid.rows * grid.columns);
      const forbidden = (i, j) => {
        for (let row = grid.rowCells[i][0]; row <= grid.rowCells[i][1]; row++)
          for (let column = grid.columnCells[j][0]; column <= grid.columnCells[j][1]; column++)
            if (!this.hidden[row * this.cells[1] + column]) return 0;
        return 1;
      };
      for (let place = 0; place < mask.length; place++)
        mask[place] = forbidden(Math.floor(place / grid.columns), place % grid.columns);
      this.masks.set(key, mask);
    }
    return this.masks.get(key);
  }

  /** The grid that is shown large: the exact weights where the file has them, else the small picture. */
  grid(layer, head) {
    const key = this.place(layer, head);
    if (!this.grids.has(key)) {
      const exact = this.exact.find((one) => one.layer === this.layers[layer] && one.head === this.heads[head]);
      this.grids.set(key, new Grid(this, key, exact));
    }
    return this.grids.get(key);
  }
}

/** The weights of one head: `values` row by row, `rows` x `columns` cells, each for a span of tokens on either side. */
class Grid {
  constructor(map, place, exact) {
    this.map = map;
    this.exact = Boolean(exact);
    [this.rows, this.columns] = exact ? map.cells : map.small.cells;
    this.values = exact ? halves(exact.weights) : this.fromBytes(place);
    // Cells of the map in each cell of the grid, and tokens in each cell of the grid.
    this.rowCells = spans(this.rows, map.cells[0]);
    this.columnCells = spans(this.columns, map.cells[1]);
    this.rowTokens = this.tokens(this.rowCells, map.cells[0], map.rows.length);
    this.columnTokens = this.tokens(this.columnCells, map.cells[1], map.columns.length);
    this.hidden = map.hiddenCells(this);
    this.strongestPlace = largestOf(this.values, choosingRows(this.hidden, this.rows, this.columns), this.columns);
    this.top = this.values[this.strongestPlace];
    this.most = this.values.reduce((most, value) => Math.max(most, value), 0);
    this.sums = this.rowCells.map(([first, last]) => {
      const sums = map.sums.subarray(place * map.cells[0] + first, place * map.cells[0] + last + 1);
      return sums.reduce((a, b) => a + b) / sums.length;
    });
  }

  fromBytes(place) {
    const size = this.rows * this.columns;
    const strongest = this.map.strongest[place];
    return Float32Array.from(this.map.bytes.subarray(place * size, (place + 1) * size), (b) => strongest * (b / 255) ** 2);
  }

  tokens(cells, count, size) {
    const inCell = spans(count, size);
    return cells.map(([first, last]) => [inCell[first][0], inCell[last][1]]);
  }

  value(row, column) {
    return this.values[row * this.columns + column];
  }

  isHidden(row, column) {
    return this.hidden[row * this.columns + column] === 1;
  }

  /** The cell of the grid that holds a cell of the map. */
  cellOf(row, column) {
    const inside = (cells, at) => cells.findIndex(([first, last]) => first <= at && at <= last);
    return [inside(this.rowCells, row), inside(this.columnCells, column)];
  }

  get single() {
    return !this.map.averaged && this.rows === this.map.rows.length && this.columns === this.map.columns.length;
  }
}

const maps = seen.maps.map((data) => new AttentionMap(data));
