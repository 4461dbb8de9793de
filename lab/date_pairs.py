"""The dates of this package's recipes, letter by letter, for a small translator: English in, Korean out.

Dimension letters: B batch, S source length, T target length.
"""

from collections.abc import Iterator

import torch
from torch import nn

from train.data.dates import dates

PAD, START, END = 0, 1, 2
Batch = tuple[torch.Tensor, torch.Tensor]


class DatePairs:
    """Pairs of dates as ids; no day of the test occurs in training."""

    def __init__(self, seed: int, training: int = 20_000, test: int = 300):
        splits = dates(seed, train=training, validation=1, test=test)
        texts = [text for split in splits.values() for column in split.values() for text in column]
        self.ids = {letter: at for at, letter in enumerate(sorted(set("".join(texts))), start=3)}
        self.vocab_size = len(self.ids) + 3
        self._splits = {name: [self._encoded(split[side]) for side in split] for name, split in splits.items()}

    def _encoded(self, texts: list[str]) -> list[torch.Tensor]:
        return [torch.tensor([*(self.ids[letter] for letter in text), END]) for text in texts]

    def _padded(self, split: str, chosen: list[int]) -> Batch:
        sides = ([column[i] for i in chosen] for column in self._splits[split])
        source, target = (torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) for rows in sides)
        return source, target

    def batches(self, seed: int, batch: int) -> Iterator[Batch]:
        """Yield source (B, S) and target (B, T), both ending in END and padded with 0, without end."""
        draw = torch.Generator().manual_seed(seed)
        while True:
            yield self._padded(
                "train", torch.randint(len(self._splits["train"][0]), (batch,), generator=draw).tolist()
            )

    def test(self) -> Batch:
        """Return all pairs of the test."""
        return self._padded("test", list(range(len(self._splits["test"][0]))))


def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the mean loss of a batch, in nats a letter of the target."""
    source, target = batch
    return model(source, source.ne(PAD).long(), labels=target.masked_fill(target.eq(PAD), -100)).loss


@torch.no_grad()
def measured(model: nn.Module, batch: Batch) -> tuple[float, float]:
    """Return the loss and the share of dates that are right whole.

    Greedy search writes a date right whole if and only if each letter is the likeliest after the right ones before it.
    """
    source, target = batch
    out = model(source, source.ne(PAD).long(), labels=target.masked_fill(target.eq(PAD), -100))
    right = out.logits.argmax(-1).eq(target) | target.eq(PAD)
    return out.loss.item(), right.all(1).float().mean().item()
