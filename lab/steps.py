"""What runs after what: a sentence read at once or token by token, and text that is written.

Parallel over positions is what self-attention has and a recurrence has not; heads change nothing of it.
Dimension letters: B batch, T length n, D width d.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

from lab.cost_layers import Convolution, Recurrent, attention
from lab.outcome import Cell, Table
from modeling_vanilla import VanillaConfig, VanillaForCausalLM

WIDTH = 64
# Operations that multiply matrices, by the name of torch's kernel.
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "mkldnn_rnn_layer")


class _Products(TorchDispatchMode):
    """Counts calls of the kernels that multiply matrices."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += function.overloadpacket.__name__ in PRODUCTS
        return function(*args, **(kwargs or {}))


def products(work: Callable[[], object]) -> int:
    """Return how many matrix products a call runs, one after another; a batch of them is one."""
    with torch.no_grad(), _Products() as counter:
        work()
    return counter.number


def attend_stepwise(layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Read (1, T, D) token by token, with a cache of keys and values: the same states as at once."""
    cache = DynamicCache()
    return torch.cat([layer(states[:, at : at + 1], cache=cache)[0] for at in range(states.shape[1])], 1)


def recur_stepwise(layer: Recurrent, states: torch.Tensor) -> torch.Tensor:
    """Read (1, T, D) token by token, with the state handed on."""
    outputs, state = [], None
    for at in range(states.shape[1]):
        output, state = layer.gru(states[:, at : at + 1], state)
        outputs.append(output)
    return torch.cat(outputs, 1)


def causal_attention(heads: int) -> nn.Module:
    """Return this package's masked self-attention."""
    layer = attention(WIDTH, "eager", heads)
    layer.is_causal = True
    return layer


def readers(heads: tuple[int, ...] = (1, 8)) -> dict[str, tuple[Callable, Callable | None]]:
    """Return by name how a layer reads states at once, and how token by token."""
    ways: dict[str, tuple[Callable, Callable | None]] = {}
    for number in heads:
        layer = causal_attention(number)
        name = f"self-attention, {number} head{'s' * (number > 1)}"
        ways[name] = (lambda x, layer=layer: layer(x)[0], lambda x, layer=layer: attend_stepwise(layer, x))
    recurrent, convolution = Recurrent(WIDTH), Convolution(WIDTH)
    ways["recurrent (GRU)"] = (recurrent, lambda x: recur_stepwise(recurrent, x))
    ways["convolution"] = (convolution, None)
    return ways


@torch.no_grad()
def time_and_count(way: Callable | None, states: torch.Tensor, seeds: int) -> tuple[Cell, Cell]:
    """Return the products of a way to read, and its milliseconds for each seed."""
    if way is None:
        return "-", "-"
    return products(lambda: way(states)), [median_time(lambda: way(states)) for _ in range(seeds)]


def reading_table(seeds: int, quick: bool) -> Table:
    """Time and count how a sentence is read, at once and token by token."""
    length = 128 if quick else 512
    states = torch.randn(1, length, WIDTH)
    rows: list[list[Cell]] = [
        [name, *time_and_count(at_once, states, seeds), *time_and_count(stepwise, states, seeds)]
        for name, (at_once, stepwise) in readers().items()
    ]
    columns = ["layer", "products in a row, at once", "ms", "products in a row, token by token", "ms "]
    return Table(f"one sentence of {length} tokens read, d = {WIDTH}", columns, rows)


def median_time(work: Callable[[], object], calls: int = 5) -> float:
    """Return the median CPU time of a call in milliseconds."""
    work()
    spent = []
    for _ in range(calls):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return 1000 * statistics.median(spent)


class RecurrentWriter(nn.Module):
    """A language model of one GRU: ids (B, T) and a state to logits (B, T, V) and the next state."""

    def __init__(self, vocab_size: int):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, WIDTH)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, vocab_size)

    def forward(self, ids: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Read ids and say what may follow each."""
        states, state = self.gru(self.embed(ids), state)
        return self.head(states), state


@torch.no_grad()
def passes_of_transformer(heads: int, use_cache: bool, tokens: int) -> tuple[int, int]:
    """Let a decoder write; return how often it was called and how many positions it computed."""
    config = VanillaConfig.tiny(variant="decoder", d_model=WIDTH, num_heads=heads, max_position_embeddings=tokens + 1)
    model = VanillaForCausalLM(config).eval()
    lengths: list[int] = []
    model.model.decoder.layers[0].register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))
    start = torch.tensor([[config.bos_token_id]])
    model.generate(
        start, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False, use_cache=use_cache, pad_token_id=0
    )
    return len(lengths), sum(lengths)


@torch.no_grad()
def passes_of_recurrence(tokens: int) -> tuple[int, int]:
    """Let a GRU write; return how often it was called and how many positions it computed."""
    model, ids, state, lengths = RecurrentWriter(97), torch.tensor([[2]]), None, []
    model.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))
    for _ in range(tokens):
        logits, state = model(ids, state)
        ids = logits[:, -1:].argmax(-1)
    return len(lengths), sum(lengths)


def writing_table(tokens: int) -> Table:
    """Count the passes, one after another, that it takes to write so many tokens."""
    rows: list[list[Cell]] = []
    for heads in (1, 8):
        for use_cache in (True, False):
            name = f"Transformer, {heads} head{'s' * (heads > 1)}, {'with' if use_cache else 'without'} cache"
            rows.append([name, *passes_of_transformer(heads, use_cache, tokens)])
    rows.append(["GRU", *passes_of_recurrence(tokens)])
    return Table(f"{tokens} tokens written", ["model", "passes in a row", "positions computed"], rows)
