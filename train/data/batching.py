"""Which rows go together: batches of similar length under a token budget, the same on any number of processes.

"Sentence pairs were batched together by approximate sequence length" (Vaswani et al. 2017, sec. 5.1). Everything here is a
pure function of its arguments, so a run that is resumed, or goes on with another number of processes, sees the same data.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from train.errors import UserError

POOL_ROWS = 100_000
"""Rows that are sorted together. Smaller pools mix rows of one length more freely, but need more padding."""


def plan_epoch(
    lengths: np.ndarray,
    max_tokens: int,
    max_rows: int | None,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    pool_rows: int | None = None,
) -> list[list[int]]:
    """Divide the rows of an epoch into global batches.

    Rows are shuffled into pools, sorted by length within a pool (rows of equal length stay shuffled), cut into batches, and
    the batches are shuffled. Without `shuffle` the rows are sorted as a whole and everything keeps that order.

    Args:
        lengths: tokens of each row on each side, (rows, sides).
        max_tokens: bound of rows x longest row, on each side, for each batch.
        max_rows: bound of the rows of a batch; None = no bound.
        seed: of the shuffling.
        epoch: of the shuffling.
        shuffle: False for evaluation.
        pool_rows: rows that are sorted together; None = `POOL_ROWS`.

    Returns:
        Row numbers, batch by batch, each row exactly once, the longest row of a batch first.

    Raises:
        UserError: one row alone is longer than `max_tokens`.
    """
    lengths = np.asarray(lengths)
    if not len(lengths):
        return []
    widest = lengths.max(axis=1)
    if widest.max() > max_tokens:
        row = int(widest.argmax())
        rule = f"is less than the {widest[row]} tokens of row {row + 1}; it must hold the longest row"
        raise UserError(
            f"batch.max_tokens: {max_tokens} {rule} (or shorten rows with data.too_long: skip or truncate)"
        )
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths)) if shuffle else np.arange(len(lengths))
    pools = max(1, round(len(lengths) / (pool_rows or POOL_ROWS))) if shuffle else 1
    # Every other pool is sorted downwards, so that lengths go on smoothly where one pool meets the next.
    order = np.concatenate(
        [
            _by_length(pool, lengths)[:: -1 if number % 2 else 1]
            for number, pool in enumerate(np.array_split(order, pools))
        ]
    )
    batches = [
        batch[np.argsort(-widest[batch], kind="stable")].tolist()
        for batch in _cut(order, widest, max_tokens, max_rows)
    ]
    if shuffle:
        batches = [batches[number] for number in random.permutation(len(batches))]
    return batches


def micro_batches(rows: Sequence[int], rank: int, world: int, accumulate: int) -> list[list[int]]:
    """Deal the rows of a global batch to the micro-batches of one process.

    Rows come sorted by length, so dealing them out in turn gives every micro-batch the same number of rows, give or take
    one, and nearly the same tokens. All micro-batches of all processes together hold each row exactly once.

    Args:
        rows: a batch of `plan_epoch`.
        rank: this process.
        world: number of processes.
        accumulate: micro-batches per process.

    Returns:
        `accumulate` lists; the last ones are empty where there are fewer rows than micro-batches.
    """
    # Process first, then micro-batch: where rows run out, no process gets a second row before each has one.
    return [list(rows[micro * world + rank :: world * accumulate]) for micro in range(accumulate)]


class TokenBatchSampler(Sampler[list[int]]):
    """Batches of `plan_epoch` for a `DataLoader` of one's own or the Trainer's, as its `batch_sampler`.

    All rows are sorted as one pool, so that every epoch has the same number of batches, which the Trainer relies on.
    Several processes take batches in turn; those of an incomplete last round are left out, other ones in every epoch, so
    that all processes take equally many steps. Such a loader must not go through `Accelerator.prepare`, which would
    divide it once more.

    The state is two numbers, epoch and batches handed out. A loader that reads ahead (workers, accelerate's) has taken
    more than it has delivered; who counts steps gives `load_state_dict` that count instead.

    Args:
        lengths: tokens of each row, (rows,) or (rows, sides).
        max_tokens: bound of rows x longest row, on each side, for the batch of one process.
        max_rows: bound of the rows of a batch; None = no bound.
        seed: of the shuffling.
        rank: this process.
        world: number of processes.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        max_tokens: int,
        max_rows: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        lengths = np.asarray(lengths)
        self.lengths = lengths[:, None] if lengths.ndim == 1 else lengths
        self.max_tokens, self.max_rows, self.seed = max_tokens, max_rows, seed
        self.rank, self.world = rank, world
        self.epoch, self.position = 0, 0
        self._size = len(self._plan())

    @property
    def sampler(self) -> "TokenBatchSampler":
        """Return itself: accelerate tells the epoch to the sampler inside a batch sampler."""
        return self

    @property
    def batch_sampler(self) -> "TokenBatchSampler":
        """Return itself: the Trainer tells the epoch to the batch sampler inside a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; another than the present one starts at its beginning."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and the batches of it that were handed out."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a state: the next iteration yields the rest of its epoch."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def __len__(self) -> int:
        """Return the batches of a whole epoch, for this process."""
        return self._size

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rest of the epoch; the next iteration is the next epoch."""
        epoch, plan = self.epoch, self._plan()
        for number in range(self.position, len(plan)):
            # Before the last batch is handed out, not after it: the Trainer does not ask again.
            ended = number + 1 == len(plan)
            self.epoch, self.position = (epoch + 1, 0) if ended else (epoch, number + 1)
            yield plan[number]

    def _plan(self) -> list[list[int]]:
        """Return the batches of this process in the present epoch."""
        rows = max(1, len(self.lengths))
        plan = plan_epoch(self.lengths, self.max_tokens, self.max_rows, self.seed, self.epoch, pool_rows=rows)
        whole = len(plan) // self.world * self.world
        return plan[self.rank : whole : self.world]


def _by_length(pool: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Sort a pool by its last side; within one length by the first side, up and down in turn, so that it has no jumps.

    Equal rows keep their (shuffled) order.
    """
    first, last = lengths[pool, 0], lengths[pool, -1]
    return pool[np.lexsort((np.where(last % 2, -first, first), last))]


def _cut(order: np.ndarray, widest: np.ndarray, max_tokens: int, max_rows: int | None) -> list[np.ndarray]:
    """Cut a sequence of rows into the longest batches that keep the bounds."""
    batches, start = [], 0
    while start < len(order):
        most = max_tokens // widest[order[start]]
        window = order[start : start + min(most, max_rows or most)]
        cells = np.maximum.accumulate(widest[window]) * np.arange(1, len(window) + 1)
        batches.append(window[: np.searchsorted(cells, max_tokens, side="right")])
        start += len(batches[-1])
    return batches
