"""Several sequences in one row, so that hardly any place of a batch is padding; none of them sees another.

Masks and positions are made in `collate`; here is which sequences share a row: a pure function of (seed, epoch).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from train.data import examples, streaming
from train.errors import UserError
from train.settings.recipe import Recipe
from train.tasks import TASKS

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

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
        place = int(np.where(left < 0, capacity, left).argmin())
        if left[place] < 0:
            place = int(free.min(axis=1).argmin())
            free[place], number[place] = capacity, count
            count += 1
        free[place] -= lengths[item]
        rows[item] = number[place]
    return rows


class Packed(examples.Examples):
    """Examples of which several make one row, other ones in every epoch.

    Args:
        parts: the sequences.
        capacity: tokens of a row, on each side.
        seed: of the order in which rows are filled.
    """

    def __init__(self, parts: examples.Examples, capacity: int, seed: int):
        super().__init__(parts.sides)
        self.parts, self.capacity, self.seed = parts, capacity, seed
        self._rows: tuple[int, np.ndarray, np.ndarray] = (-1, np.empty(0), np.empty(0))

    def _of(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the sequences in the order of their rows, and where each row begins; kept from the last call."""
        if self._rows[0] != epoch:
            lengths = self.parts.lengths(epoch)
            order = np.random.default_rng([self.seed, epoch, 1]).permutation(len(lengths))
            rows = fill_rows(lengths, self.capacity, order)
            starts = np.concatenate([[0], np.cumsum(np.bincount(rows))])
            self._rows = (epoch, np.argsort(rows, kind="stable"), starts)
        return self._rows[1:]

    def lengths(self, epoch: int) -> np.ndarray:
        """Return the tokens of every row on each side, (rows, sides)."""
        members, starts = self._of(epoch)
        return np.add.reduceat(self.parts.lengths(epoch)[members], starts[:-1], axis=0)

    def row(self, epoch: int, index: int) -> dict[str, Any]:
        """Return one row: its number as `row`, and its sequences as `parts`."""
        members, starts = self._of(epoch)
        inside = members[starts[index] : starts[index + 1]]
        return {"row": index, "parts": [self.parts.row(epoch, int(part)) for part in inside]}


def training_examples(split: "Dataset", tokenizer: "PreTrainedTokenizerBase", recipe: Recipe) -> examples.Examples:
    """Encode the training rows, and pack them where `batch.packing` says so; a stream of them window by window.

    Raises:
        UserError: as `examples.encode`, or rows of the stated length do not fit the model or the token budget.
    """
    if recipe.batch.packing and (window := examples.of_model(recipe, "attention_window")) is not None:
        rule = "cannot go with it, as the masks of packed rows would replace the window"
        raise UserError(f"model.attention_window: {window}: batch.packing {rule}")
    if recipe.data.stream_rows is None:
        return _window(split, tokenizer, recipe)
    return streaming.Windows(streaming.Stream(recipe), lambda window, first: _window(window, tokenizer, recipe, first))


def _window(split: "Dataset", tokenizer, recipe: Recipe, first: int = 0) -> examples.Examples:
    """Encode and pack rows that are at hand."""
    if not recipe.batch.packing:
        return examples.encode(split, tokenizer, recipe, first)
    capacity, longest = examples.row_capacity(tokenizer, recipe)
    if TASKS[recipe.task].has_pairs:
        parts = examples.encode(split, tokenizer, recipe, first)
    else:
        parts = examples.documents(split, tokenizer, recipe, longest, first)
    return Packed(parts, capacity, recipe.loop.seed)
