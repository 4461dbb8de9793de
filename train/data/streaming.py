"""Training data that is read window by window, for data that is larger than memory and disk, or has no end.

A window takes the place of a pass over the data: its rows are shuffled and batched among themselves, with the number of the
window as the epoch. So the order stays a pure function of (seed, window, position), on any number of processes.
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset, IterableDataset

from train.data import splits
from train.data.examples import Examples
from train.data.readers import Values

if TYPE_CHECKING:
    from train.settings.recipe import Recipe

Place = dict[str, Any]
"""Where a window begins, as JSON: `row`, the good rows of this pass before it, and `hub`, the state of a Hub data set."""


class Stream:
    """The training rows of a recipe from any place on, again from the start where they end.

    Args:
        recipe: its `data` section; `data.stream_rows` is the size of a window.
    """

    def __init__(self, recipe: "Recipe"):
        self.recipe = recipe
        self._ahead: tuple[Place, Iterator[Values]] | None = None
        self._hub: IterableDataset | None = None

    def window(self, place: Place) -> tuple[Dataset, Place]:
        """Return the rows of the window that begins at a place, and the place of the next one.

        Raises:
            UserError: a row is bad, naming file and line, or there is none at all.
        """
        row, size, limit = place.get("row", 0), self.recipe.data.stream_rows, self.recipe.data.limit_train
        wanted = size if limit is None else min(size, limit - row)
        rows = self._from(place)
        split = splits.gathered(itertools.islice(rows, wanted), self.recipe, "train")
        if not len(split):
            if not row:
                splits.refuse_empty(False, self.recipe, "train")
            return self.window({})  # the pass ended exactly where a window did
        if len(split) < size:
            return split, {}
        following: Place = {"row": row + size}
        if self._hub is not None:
            following["hub"] = self._hub.state_dict()
        self._ahead = following, rows
        return split, following

    def _from(self, place: Place) -> Iterator[Values]:
        """Return the rows from a place on: those left over from the last window where they follow, else opened anew."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == place:
            return ahead[1]
        if not self.recipe.data.hub:
            return itertools.islice(splits.kept(self.recipe, "train"), place.get("row", 0), None)
        self._hub = splits.hub_split(self.recipe, "train")
        if "hub" in place:
            self._hub.load_state_dict(place["hub"])
        return splits.kept(self.recipe, "train", self._hub, place.get("row", 0))


class Windows(Examples):
    """The examples of a stream, one window in memory and the next one being made in a thread.

    Args:
        stream: the rows.
        encode: makes the examples of a window from its rows and the number of its first row.
    """

    def __init__(self, stream: Stream, encode: Callable[[Dataset, int], Examples]):
        super().__init__({})
        self.stream, self.encode = stream, encode
        self.seek(0, {})

    def seek(self, epoch: int, place: Place) -> None:
        """Go to a window, given its number and where it begins."""
        self.epoch, self._current, self._begin = epoch, None, place
        self._next: Future | None = None
        # One thread per seek: what an abandoned one still reads is read by nobody.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stream")

    def following(self, epoch: int) -> Place:
        """Return where the window after this one begins."""
        self._of(epoch)
        return self._begin

    def lengths(self, epoch: int) -> np.ndarray:
        """Return the tokens of every example of a window on each side, (examples, sides)."""
        return self._of(epoch).lengths(epoch)

    def row(self, epoch: int, index: int) -> dict[str, Any]:
        """Return one example of a window."""
        return self._of(epoch).row(epoch, index)

    def __len__(self) -> int:
        """Return the number of examples of the present window."""
        return len(self._of(self.epoch).lengths(self.epoch))

    def _of(self, epoch: int) -> Examples:
        """Return the examples of a window, this one or the next."""
        if self._current is None:
            self._take()
        while self.epoch < epoch:
            self.epoch += 1
            self._take()
        if epoch != self.epoch:
            raise RuntimeError(f"window {epoch} has been left; the stream is at {self.epoch}")
        return self._current

    def _take(self) -> None:
        """Make the next window the present one, and begin to read the one after it."""
        made = self._next or self._thread.submit(self._make, self._begin)
        self._current, self._begin = made.result()
        self._next = self._thread.submit(self._make, self._begin)

    def _make(self, place: Place) -> tuple[Examples, Place]:
        """Read and encode the window that begins at a place."""
        split, following = self.stream.window(place)
        return self.encode(split, place.get("row", 0)), following
