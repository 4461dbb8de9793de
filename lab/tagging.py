"""The small model of the labs on parts: an encoder of this package that names a token for each place of a row.

Each task has one answer that is known, so an accuracy of 1 can be reached, and a part that is taken away shows at once.
Dimension letters: B batch, T length, V tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from lab.outcome import Cell
from lab.training import count
from modeling_vanilla import VanillaConfig, VanillaForTokenClassification
from modeling_vanilla.attention import MultiHeadAttention

Model = TypeVar("Model", bound=nn.Module)
Batch = tuple[torch.Tensor, torch.Tensor]

# What is to be named at place t of x_0 ... x_(n-1), all digits. Places before the first are those at the end (roll).
TASKS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "copy": lambda x, symbols: x,
    "reverse": lambda x, symbols: x.flip(1),  # x_(n-1-t)
    "previous": lambda x, symbols: x.roll(1, 1),  # x_(t-1)
    "sum": lambda x, symbols: (x.roll(1, 1) + x.flip(1)) % symbols,  # x_(t-1) + x_(n-1-t)
    "two places": lambda x, symbols: x.roll(1, 1) * symbols + x.flip(1),  # both, in this order
}


def rows(task: str, seed: int, batch: int, length: int, symbols: int = 10) -> Iterator[Batch]:
    """Yield (x, y) batches without end, both (B, T): digits drawn at random, and what `task` names at each place."""
    if task not in TASKS:
        raise ValueError(f"task: {task!r}; one of {', '.join(TASKS)}")
    draw = torch.Generator().manual_seed(seed)
    while True:
        digits = torch.randint(symbols, (batch, length), generator=draw)
        yield digits, TASKS[task](digits, symbols)


def config(variant: str = "encoder", **fields: Any) -> VanillaConfig:
    """Return the numbers of a small model without dropout, on the kernel that keeps its weights."""
    sizes: dict[str, Any] = dict(vocab_size=10, num_labels=10, d_model=64, d_ff=128, num_heads=4, num_layers=1)
    sizes |= dict(dropout=0.0, label_smoothing=0.0, max_position_embeddings=64, use_cache=False)
    # No token of these rows is padding.
    ids = dict(pad_token_id=None, bos_token_id=None, eos_token_id=None, decoder_start_token_id=None)
    return VanillaConfig(**({"variant": variant, "attn_implementation": "eager"} | sizes | ids | fields))


def tagger(seed: int, **fields: Any) -> VanillaForTokenClassification:
    """Return an encoder with a linear map to the answers; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return VanillaForTokenClassification(config(**fields))


def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the mean loss of a batch, in nats a place."""
    return model(batch[0], labels=batch[1]).loss


def attention_of(model: nn.Module) -> MultiHeadAttention:
    """Return the only attention of a model of one layer."""
    (attention,) = (part for part in model.modules() if isinstance(part, MultiHeadAttention))
    return attention


@torch.no_grad()
def accuracy(model: nn.Module, batch: Batch) -> float:
    """Return the share of places that are named right."""
    return model(batch[0]).logits.argmax(-1).eq(batch[1]).float().mean().item()


def matched(build: Callable[[int], Model], weights: int) -> Model:
    """Return `build(width)` with as near to `weights` weights as a whole width allows.

    Args:
        build: Returns a model whose number of weights grows linearly with its width.
    """
    narrow, wide = count(build(1)), count(build(2))
    return build(max(1, 1 + round((weights - narrow) / (wide - narrow))))


def by_seed(numbers: Sequence[Sequence[float]]) -> list[Cell]:
    """Return the cells of a row of a table, one for each number measured, from a sequence of numbers for each seed."""
    return [list(cell) for cell in zip(*numbers)]
