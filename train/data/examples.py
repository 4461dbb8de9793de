"""Examples of a split, as token ids: one per row, or blocks of a stream (causal, masked)."""

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class Ragged:
    """Many sequences of ids of different lengths in one flat array."""

    def __init__(self, sequences: Iterable[Iterable[int]] = ()):
        # Typed arrays: millions of rows as Python lists would take ten times the memory.
        flat, ends = array("i"), array("q", [0])
        for sequence in sequences:
            if isinstance(sequence, np.ndarray) and sequence.dtype == np.int32:
                flat.frombytes(sequence.tobytes())
            else:
                flat.extend(sequence)
            ends.append(len(flat))
        self.flat = np.frombuffer(flat, dtype=np.int32)  # no copy of what may be gigabytes
        self.offsets = np.array(ends, dtype=np.int64)

    @classmethod
    def of(cls, flat: np.ndarray, offsets: np.ndarray) -> "Ragged":
        """Wrap arrays as they are, such as those that are mapped from a file."""
        result = cls()
        result.flat, result.offsets = np.asarray(flat), np.asarray(offsets)  # slices of a memmap are slow
        return result

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


class Examples:
    """The examples of one split; an example does not change from epoch to epoch.

    Args:
        sides: `input_ids`, and `labels` for translation.
        answers: what is learned besides, by its name in the model's forward: a number for each example, or one for each of its
            tokens.
        origins: likewise what says where in its row an example stands; the model is not given it.
    """

    def __init__(
        self,
        sides: dict[str, Ragged],
        answers: "Mapping[str, np.ndarray | Ragged] | None" = None,
        origins: "Mapping[str, np.ndarray | Ragged] | None" = None,
    ):
        self.sides = sides
        self.answers: dict[str, Any] = dict(answers or {})
        self.origins: dict[str, Any] = dict(origins or {})

    def __len__(self) -> int:
        """Return the number of examples of epoch 0."""
        return len(self.lengths(0))

    def lengths(self, epoch: int) -> np.ndarray:
        """Return the tokens of every example on each side, (examples, sides)."""
        return np.stack([side.lengths() for side in self.sides.values()], axis=1)

    def seek(self, epoch: int, begin: dict[str, Any]) -> None:
        """Go to where an epoch begins; nothing to do where all rows are at hand."""

    def following(self, epoch: int) -> dict[str, Any]:
        """Return what `seek` needs for the epoch after this one; nothing where all rows are at hand."""
        return {}

    def row(self, epoch: int, index: int) -> dict[str, Any]:
        """Return one example: its number as `row`, its ids, and its answers."""
        return {"row": index} | {name: values[index] for name, values in (self.sides | self.answers).items()}

    def shortened(self, keep: np.ndarray, longest: int) -> "Examples":
        """Return some of the examples, each cut before its last token, which ends the text, where it is longer."""

        def cut(values: Any) -> Any:
            if not isinstance(values, Ragged):
                return values[keep]
            rows = (values[row] for row in keep)
            return Ragged(
                ids if len(ids) <= longest else np.concatenate([ids[: longest - 1], ids[-1:]]) for ids in rows
            )

        tables: Any = (self.sides, self.answers, self.origins)
        return Examples(*({name: cut(values) for name, values in table.items()} for table in tables))


class Blocks(Examples):
    """A stream of ids cut into blocks, at other places in every epoch; epoch 0 starts at the beginning.

    Causal blocks share one token with the next, so that every token but the first is predicted exactly once an epoch.
    Masked blocks share none and stand between `prefix` and `suffix`.

    Args:
        stream: all ids, one after the other.
        block_size: predictions (masked: tokens of the stream) of a block.
        seed: of the shift of later epochs.
        overlap: 1 for causal, 0 for masked.
        prefix: ids before every block.
        suffix: ids after every block.
    """

    def __init__(self, stream: np.ndarray, block_size: int, seed: int, overlap: int, prefix=(), suffix=()):
        self.stream, self.block_size, self.seed, self.overlap = stream, block_size, seed, overlap
        self.prefix, self.suffix = (np.asarray(ids, dtype=np.int32) for ids in (prefix, suffix))
        self._bounds: tuple[int, np.ndarray] = (0, self._cuts(0))

    def _cuts(self, epoch: int) -> np.ndarray:
        """Return where blocks begin, and the end."""
        end = len(self.stream) - self.overlap
        shift = 0 if epoch == 0 else int(np.random.default_rng([self.seed, epoch]).integers(self.block_size))
        return np.unique(np.concatenate([[0], np.arange(shift, end, self.block_size), [end]]))

    def _of(self, epoch: int) -> np.ndarray:
        """Return the cuts of an epoch, kept from the last call."""
        if self._bounds[0] != epoch:
            self._bounds = (epoch, self._cuts(epoch))
        return self._bounds[1]

    def lengths(self, epoch: int) -> np.ndarray:
        """Return the predictions of every causal block, or the tokens of every masked block, (blocks, 1)."""
        return np.diff(self._of(epoch))[:, None] + len(self.prefix) + len(self.suffix)

    def row(self, epoch: int, index: int) -> dict[str, Any]:
        """Return one block; causal ones hold one token more than their predictions."""
        start, end = self._of(epoch)[index : index + 2]
        return {
            "row": index,
            "input_ids": np.concatenate([self.prefix, self.stream[start : end + self.overlap], self.suffix]),
        }
