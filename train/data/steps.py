"""The order of the data as a pure function of (seed, epoch, position), and its delivery to one rank, step by step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from train.data import batching
from train.errors import UserError

if TYPE_CHECKING:
    from train.data.collate import Batch, Collator
    from train.data.examples import Examples
    from train.settings.recipe import Recipe


class Place(NamedTuple):
    """One step of one rank: which rows it works on.

    Attributes:
        epoch: pass over the data.
        position: number of the global batch in that pass.
        batches: global batches in that pass.
        micro: the rows of each micro-batch of this rank, as many on every rank; some may be empty.
        filler: a row of the global batch, for a micro-batch that has none.
        following: where the data of the next pass begin, for data that is streamed.
    """

    epoch: int
    position: int
    batches: int
    micro: list[list[int]]
    filler: int
    following: dict[str, Any]


@dataclass
class Delivery:
    """The micro-batches of one step of one rank, ready for the model, and where they came from."""

    place: Place
    micro: "list[Batch]"


class Places(Sampler[Place]):
    """Yield the places of one rank without end, from a given epoch and position on.

    The global batches do not depend on the number of ranks, so a run may go on with another number of them.
    """

    def __init__(self, examples: "Examples", recipe: "Recipe", rank: int, world: int, epoch: int, position: int):
        self.examples, self.recipe = examples, recipe
        self.rank, self.world = rank, world
        self.epoch, self.position = epoch, position

    def plan(self, epoch: int) -> list[list[int]]:
        """Return the global batches of one pass over the data."""
        batch = self.recipe.batch
        lengths = self.examples.lengths(epoch)
        plan = batching.plan_epoch(lengths, batch.max_tokens, batch.max_rows, self.recipe.loop.seed, epoch)
        if not plan:
            raise UserError("data.train: no rows to train on")
        return plan

    def __iter__(self) -> Iterator[Place]:
        """Yield place after place, epoch after epoch."""
        epoch, position = self.epoch, self.position
        while True:
            plan, following = self.plan(epoch), self.examples.following(epoch)
            for number in range(position, len(plan)):
                rows = plan[number]
                accumulate = self.recipe.loop.accumulate
                # As many as the busiest rank needs: where weights are sharded, each forward pass is a collective.
                needed = min(accumulate, math.ceil(len(rows) / self.world))
                micro = batching.micro_batches(rows, self.rank, self.world, accumulate)[:needed]
                yield Place(epoch, number, len(plan), micro, rows[-1], following)
            epoch, position = epoch + 1, 0


class Collated(Dataset):
    """Turn a place into the tensors of its micro-batches."""

    def __init__(self, examples: "Examples", collator: "Collator"):
        self.examples, self.collator = examples, collator

    def __getitem__(self, place: Place) -> Delivery:
        """Collate the rows of each micro-batch; one without rows gets a filler that counts for nothing."""
        epoch, row = place.epoch, self.examples.row
        micro = [
            self.collator([row(epoch, i) for i in rows], epoch)
            if rows
            else self.collator.filler(row(epoch, place.filler))
            for rows in place.micro
        ]
        return Delivery(place, micro)


def deliveries(examples: "Examples", collator: "Collator", places: Places, num_workers: int) -> Iterator[Delivery]:
    """Return an endless iterator over the steps of one rank.

    The loader has a generator of its own: with the global one, starting it would move the state that dropout draws
    from, and a resumed run would differ from an uninterrupted one.
    """
    loader: DataLoader[Any] = DataLoader(
        Collated(examples, collator),
        batch_size=None,
        sampler=places,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        generator=torch.Generator().manual_seed(0),
    )
    return iter(loader)


def _as_it_is(delivery: Any) -> Any:
    """Stand in for the loader's own conversion, which would take the delivery apart."""
    return delivery
