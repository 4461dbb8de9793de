"""The rungs of the ladder, from a fixed context to the Transformer, with one interface and equal numbers of weights.

Each is a module that maps source ids (B, S) and the ids written so far (B, T) to logits (B, T, V).
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from lab.ablations import without_positions
from lab.convolutional import ConvolutionalTranslator
from lab.made import END, PAD, START
from lab.recurrent import RecurrentTranslator
from lab.training import count
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration


def config_of(vocabulary: int, width: int, **changes) -> VanillaConfig:
    """Return the config of the ladder's Transformer: two layers on each side, no dropout, no smoothing."""
    sizes = {"vocab_size": vocabulary, "d_model": width, "d_ff": 2 * width, "num_heads": 4, "num_layers": 2}
    plain = {"dropout": 0.0, "label_smoothing": 0.0, "max_position_embeddings": 64}
    return VanillaConfig(**(sizes | plain | changes))


class Transformer(nn.Module):
    """This package's translator behind the interface of the rungs (Vaswani et al. 2017)."""

    def __init__(self, config: VanillaConfig, positions: bool = True):
        super().__init__()
        self.translator = VanillaForConditionalGeneration(config)
        # On a CPU two plain products are faster than the fused kernel on sentences this short.
        self.translator.set_attn_implementation("eager")
        if not positions:
            without_positions(self.translator)

    def forward(self, source: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        """Map source (B, S) and what was written so far (B, T) to the logits (B, T, V) of the next tokens."""
        real = source.ne(PAD)
        mask = None if real.all() else real
        return self.translator(source, mask, decoder_input_ids=written, use_cache=False).logits


Build = Callable[[int, int, int, int], nn.Module]
"""(vocabulary, width of the embeddings, free size, longest sequence) -> model."""


def _recurrent(score: str | None) -> Build:
    return lambda vocabulary, width, size, longest: RecurrentTranslator(vocabulary, width, 2 * size, score, longest)


def _convolutional(vocabulary: int, width: int, size: int, longest: int) -> nn.Module:
    return ConvolutionalTranslator(vocabulary, size, positions=longest)


def _transformer(heads: int, positions: bool = True) -> Build:
    def build(vocabulary: int, width: int, size: int, longest: int) -> nn.Module:
        sizes = {"num_heads": heads, "d_ff": size, "max_position_embeddings": longest}
        return Transformer(config_of(vocabulary, width, **sizes), positions)

    return build


RUNGS: dict[str, Build] = {
    "fixed context": _recurrent(None),
    "additive": _recurrent("additive"),
    "dot": _recurrent("dot"),
    "general": _recurrent("general"),
    "location": _recurrent("location"),
    "scaled dot": _recurrent("scaled"),
    "convolution": _convolutional,
    "one head": _transformer(1),
    "no positions": _transformer(4, positions=False),
    "four heads": _transformer(4),
}


def weights_of(vocabulary: int, width: int) -> int:
    """Return the number of weights of the Transformer of this width, which all rungs have about."""
    return count(Transformer(config_of(vocabulary, width)))


def fitted(build: Build, vocabulary: int, width: int, longest: int, weights: int) -> nn.Module:
    """Build a rung with the free size that brings it nearest to a number of weights, from torch's current seed."""

    def distance(size: int) -> int:
        with torch.device("meta"):
            return count(build(vocabulary, width, size, longest)) - weights

    low, high = 1, 2
    while distance(high) < 0:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if distance(middle) < 0 else (low, middle)
    return build(vocabulary, width, min(low, high, key=lambda size: abs(distance(size))), longest)


def loss_of(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the mean loss in nats a token of (source, target): each target token from those before it."""
    source, target = batch
    logits = model(source, target[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)


@torch.no_grad()
def exact(model: nn.Module, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Tell for each row whether greedy writing gives the target without an error: booleans (B,).

    One pass with the target as the input decides it: writing goes on from the target as long as it has no error.
    """
    right = model(source, target[:, :-1]).argmax(-1).eq(target[:, 1:])
    return (right | target[:, 1:].eq(PAD)).all(1)


@torch.no_grad()
def greedy(model: nn.Module, source: torch.Tensor, longest: int) -> list[list[int]]:
    """Write the likeliest token at each step, at most `longest` a row; return the ids before the end of each row."""
    written = torch.full((len(source), 1), START)
    ended = torch.zeros(len(source), dtype=torch.bool)
    for _ in range(longest):
        token = model(source, written)[:, -1].argmax(-1).masked_fill(ended, PAD)
        written = torch.cat([written, token.unsqueeze(1)], 1)
        ended |= token.eq(END)
        if ended.all():
            break
    return [[token for token in row if token not in (END, PAD)] for row in written[:, 1:].tolist()]
