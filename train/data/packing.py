"""Several sequences in one row, so that hardly any place of a batch is padding; none of them sees another.

Masks and positions are made in `collate`; here is which sequences share a row: a pure function of (seed, epoch).
"""

from typing import Any

import numpy as np

from train.data.examples import Examples

OPEN_ROWS = 32
"""Rows that are filled at the same time. More of them leave less padding and take longer to search."""


def fill_rows(lengths: np.ndarray, capacity: int, order: np.ndarray) -> np.ndarray:
    """Put sequences into rows, each into the open row that it fills best; where none has room, the fullest is closed.

    Sequences come in random order, not longest first: then every row holds long and short ones, and the rows are
    nearly as full.

    Args:
        lengths: tokens of each sequence on each side, (sequences, sides).
        capacity: tokens of a row, on each side.
        order: the sequences in the order in which they are placed.

    Returns:
        The row of each sequence, (sequences,), numbered from 0 without gaps.
    """
    longest = lengths.max(axis=1)
    rows = np.empty(len(lengths), dtype=np.int64)
    sides = lengths.shape[1]
    free = np.zeros((OPEN_ROWS, sides), dtype=np.int64)
    number = np.full(OPEN_ROWS, -1)
    count = 0
    assert not len(longest) or longest.max() <= capacity
    for item in order:
        left = (free - lengths[item]).min(axis=1)
        # The smallest space that is left over, of those that are not negative.
        slot = int(np.where(left < 0, capacity, left).argmin())
        if left[slot] < 0:
            slot = int(free.min(axis=1).argmin())
            free[slot], number[slot] = capacity, count
            count += 1
        free[slot] -= lengths[item]
        rows[item] = number[slot]
    return rows


class Packed(Examples):
    """Examples of which several make one row, other ones in every epoch.

    Args:
        sequences: what shares the rows.
        capacity: tokens of a row, on each side.
        seed: of the order in which rows are filled.
    """

    def __init__(self, sequences: Examples, capacity: int, seed: int):
        super().__init__(sequences.sides)
        self.sequences, self.capacity, self.seed = sequences, capacity, seed
        self._rows: tuple[int, np.ndarray, np.ndarray] = (-1, np.empty(0), np.empty(0))

    def _of(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the sequences in the order of their rows, and where each row begins; kept from the last call."""
        if self._rows[0] != epoch:
            lengths = self.sequences.lengths(epoch)
            order = np.random.default_rng([self.seed, epoch, 1]).permutation(len(lengths))
            rows = fill_rows(lengths, self.capacity, order)
            starts = np.concatenate([[0], np.cumsum(np.bincount(rows))])
            self._rows = (epoch, np.argsort(rows, kind="stable"), starts)
        return self._rows[1:]

    def lengths(self, epoch: int) -> np.ndarray:
        """Return the tokens of every row on each side, (rows, sides)."""
        members, starts = self._of(epoch)
        return np.add.reduceat(self.sequences.lengths(epoch)[members], starts[:-1], axis=0)

    def row(self, epoch: int, index: int) -> dict[str, Any]:
        """Return one row: its number as `row`, and its sequences as `parts`."""
        members, starts = self._of(epoch)
        inside = members[starts[index] : starts[index + 1]]
        return {"row": index, "parts": [self.sequences.row(epoch, int(number)) for number in inside]}
