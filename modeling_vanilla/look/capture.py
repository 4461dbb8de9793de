# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The attention weights of a model while it runs, for any model of transformers that calls its attention interface.

The model runs on the kernel that it has. The weights of the chosen layers and heads are computed beside it from the
queries and keys that the kernel gets, a block of rows at a time, and each call is reduced at once.
Dimension letters: B batch, T query length, S key length, H heads (h of them chosen), K head_dim, t rows of a block.
"""

import math
import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from transformers import AttentionInterface

from .view import CELLS, Kind

BLOCK = {"cpu": 2**19, "cuda": 2**26}
"""Weights of a block at most, by device: what fits into its fast memory."""
CROSS = re.compile("cross|encoder_attn|encdec|enc_dec|encoder_decoder", re.IGNORECASE)
"""What the attention over the encoder is called: crossattention (BERT), encoder_attn (BART), EncDecAttention (T5)."""


@dataclass
class Attention:
    """One call of one attention, as a reduction gets it: of the chosen heads only.

    Attributes:
        kind: Which attention of the model it is.
        layer: Its number, from 0.
        heads: The numbers of the h heads.
        query: (B, h, T, K), as the kernel gets it.
        key: (B, h, S, K), repeated where several heads share one.
        value: (B, h, S, Kv), the same.
        scaling: The factor of the products.
        mask: As the kernel got it; see `masked`.
        is_causal: Without a mask, or beside one of padding alone, query i sees no key after i + offset.
        offset: S - T for flash attention, which takes the last query for the place of the last key; else 0.
        window: How many keys before it a query of flash attention sees, itself included.
        bias: (B or 1, h or 1, T, S), added to the scores for positions; None where nothing is.
        softcap: Scores become softcap * tanh(score / softcap) before the mask (Gemma 2).
        sinks: (h,) or None: a score beside those of the keys, which takes its share and gives nothing (GPT-OSS).
    """

    kind: Kind
    layer: int
    heads: list[int]
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float
    mask: Any = None
    is_causal: bool = False
    offset: int = 0
    window: int | None = None
    bias: torch.Tensor | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Return (T, S)."""
        return self.query.shape[2], self.key.shape[2]

    def blocks(self, multiple: int = 1) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Compute the weights, a block of rows at a time, in float32 and without dropout.

        Args:
            multiple: Each block but the last has a multiple of so many rows.

        Yields:
            Weights (B, h, t, S), each row summing to 1, or 0 where it may attend nothing; and what is hidden from
            these rows, bool (B or 1, h or 1, t, S), or None where they see all.
        """
        for weights, hidden in self.narrow_blocks(multiple):
            missing = self.size[1] - weights.shape[-1]
            yield nn.functional.pad(weights, (0, missing)) if missing else weights, hidden

    def narrow_blocks(self, multiple: int = 1) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Compute the weights as `blocks` does, without the columns after the last that a row of the block sees."""
        length, total = self.size
        batch, heads = self.query.shape[:2]
        rows = BLOCK.get(self.query.device.type, BLOCK["cuda"]) // (batch * heads * total)
        rows = max(multiple, rows // multiple * multiple)
        keys = self.key.float().transpose(2, 3)  # (B, h, K, S)
        for first in range(0, length, rows):
            last = min(first + rows, length)
            added, hidden = self.masked(first, last)
            width = total if hidden is None else _width(hidden)
            queries = self.query[:, :, first:last].float() * self.scaling
            yield self._weights(queries, keys[..., :width], added, hidden), hidden

    def _weights(
        self, queries: torch.Tensor, keys: torch.Tensor, added: torch.Tensor | None, hidden: torch.Tensor | None
    ) -> torch.Tensor:
        """Return softmax(queries keys + added), (B, h, t, S), without what is hidden."""
        scores = queries @ keys
        width = keys.shape[-1]
        if self.softcap:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        if added is not None:
            scores += added[..., :width]
        if hidden is not None:  # one mask for all heads: filling it is cheaper than filling the scores
            hidden = hidden[..., :width]
            scores += torch.zeros(hidden.shape, device=scores.device).masked_fill_(hidden, -math.inf)
        if self.sinks is not None:
            sinks = self.sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
        weights = scores.softmax(-1)
        if hidden is not None and (blind := hidden.all(-1, keepdim=True)).any():
            weights = weights.masked_fill(blind, 0.0)
        return weights

    def masked(self, first: int, last: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return what is added to the scores of rows `first` to `last`, and which of them are hidden.

        Both are (B or 1, h or 1, t, S), or None. A mask may be booleans or numbers (sdpa, eager), a rule (flex
        attention), which of the keys are padding (flash attention, (B, S)), or nothing but `is_causal`.
        """
        length, total = self.size
        device = self.query.device
        added = None if self.bias is None else self.bias[:, :, first:last, :total].float()
        places, columns = torch.arange(first, last, device=device)[:, None], torch.arange(total, device=device)
        if self.mask is not None and not torch.is_tensor(self.mask):  # a BlockMask
            batch = torch.arange(self.query.shape[0], device=device)[:, None, None, None]
            heads = torch.zeros_like(batch)  # transformers makes one rule for all heads
            seen = self.mask.mask_mod(batch, heads, places, columns)
            return added, ~torch.broadcast_to(seen, (seen.shape[0], 1, last - first, total))
        if self.mask is not None and self.mask.dim() == 4:
            rows = self.mask if self.mask.shape[2] == 1 else self.mask[:, :, first:last]
            rows = rows[..., :total]
            if rows.dtype == torch.bool:
                return added, ~rows
            hidden = rows <= torch.finfo(rows.dtype).min
            numbers = rows.float().masked_fill(hidden, 0.0)
            return numbers if added is None else numbers + added, hidden
        hidden = None if self.mask is None else self.mask[:, None, None, -total:] == 0  # (B, 1, 1, S)
        if self.is_causal and (length > 1 or self.window):
            later = columns > places + self.offset  # (t, S)
            if self.window:
                later = later | (columns <= places + self.offset - self.window)
            hidden = later[None, None] if hidden is None else hidden | later
        return added, hidden


def _width(hidden: torch.Tensor) -> int:
    """Return how many columns are left when those at the end go that no row sees, at least 1."""
    seen = (~hidden.flatten(0, -2).all(0)).nonzero()
    return int(seen[-1]) + 1 if len(seen) else 1


Reduce = Callable[[Attention], Any]


def full(attention: Attention) -> torch.Tensor:
    """Keep all weights, (B, h, T, S)."""
    return torch.cat([weights for weights, _ in attention.blocks()], 2)


def top(count: int) -> Reduce:
    """Keep the `count` largest weights of each row: (values, columns), each (B, h, T, count), largest first."""

    def reduce(attention: Attention) -> tuple[torch.Tensor, torch.Tensor]:
        kept = min(count, attention.size[1])
        blocks = (weights for weights, _ in attention.narrow_blocks())
        largest = [nn.functional.pad(block, (0, max(0, kept - block.shape[3]))).topk(kept) for block in blocks]
        return torch.cat([block.values for block in largest], 2), torch.cat([block.indices for block in largest], 2)

    return reduce


def averaged(cells: int = CELLS) -> Reduce:
    """Keep a map of at most `cells` x `cells`: the mean over blocks of neighbouring rows and columns.

    A cell stands for ceil(T / cells) rows and ceil(S / cells) columns; at the lower and the right end for fewer.
    """

    def reduce(attention: Attention) -> torch.Tensor:
        height, width = (-(-size // cells) for size in attention.size)
        if height == width == 1:
            return full(attention)
        total = attention.size[1]
        blocks = [cell_means(weights, height, width, total) for weights, _ in attention.narrow_blocks(height)]
        return torch.cat(blocks, 2)

    return reduce


def cell_means(weights: torch.Tensor, height: int, width: int, total: int) -> torch.Tensor:
    """Average (B, h, t, S) over cells of `height` rows and `width` columns; what a cell lacks does not count.

    Args:
        weights: Columns at the end may be left out where all is 0.
        height: Rows of a cell.
        width: Columns of a cell.
        total: S.
    """
    rows, device = weights.shape[2], weights.device
    sums = _sums(_sums(weights, 2, height), 3, width)
    sums = nn.functional.pad(sums, (0, -(-total // width) - sums.shape[3]))
    counts = [
        (size - torch.arange(0, size, cell, device=device)).clamp(max=cell)
        for size, cell in ((rows, height), (total, width))
    ]
    return sums / (counts[0][:, None] * counts[1])


def _sums(weights: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """Add up neighbours, `size` at a time; at the end there may be fewer."""
    if missing := -weights.shape[dim] % size:
        weights = nn.functional.pad(weights, (0, missing) if dim == 3 else (0, 0, 0, missing))
    return weights.unflatten(dim, (-1, size)).sum(dim + 1)


@dataclass
class Layer:
    """What was seen of one attention.

    Attributes:
        kind: "encoder" or "decoder" (self-attention), or "cross".
        layer: Its number, from 0.
        heads: The numbers of the heads that were kept.
        name: Its module's name.
        calls: What the reduction returned, call by call: one in a forward pass; in `generate` one for each step,
            except for the encoder. With beams the batch of a step is B * beams rows, in the order of that step.
    """

    kind: Kind
    layer: int
    heads: list[int]
    name: str
    calls: list[Any] = field(default_factory=list)


Seen = dict[tuple[Kind, int], Layer]


class _Capture:
    """One open `capture`: which modules it watches, and what it saw of them."""

    def __init__(self, model: nn.Module, layers, heads, kind, reduce: Reduce):
        self.model = model
        self.layers, self.heads = layers, heads
        self.kinds: tuple[Kind, ...] = (kind,) if isinstance(kind, str) else tuple(kind or ())
        self.reduce = reduce
        self.names = {id(module): name for name, module in model.named_modules()}
        self.has_two_halves = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
        self.depth_in_encoder = 0
        self.layers_by_kind: dict[Kind, set[int]] = {}
        self.seen: Seen = {}

    def watch_encoder(self, stack: ExitStack) -> None:
        """Know while the encoder of an encoder-decoder runs: its halves may be called alike, or share modules."""
        get_encoder: Any = getattr(self.model, "get_encoder", None)
        encoder = get_encoder() if self.has_two_halves and get_encoder else None
        if not isinstance(encoder, nn.Module) or encoder is self.model:
            self.has_two_halves = False
            return

        def step(by: int) -> Callable[..., None]:
            def hook(*_: Any) -> None:
                if self in _open.get():  # not when another thread runs the model
                    self.depth_in_encoder += by

            return hook

        stack.callback(encoder.register_forward_pre_hook(step(1)).remove)
        stack.callback(encoder.register_forward_hook(step(-1), always_call=True).remove)

    def kind_of(self, module: nn.Module, name: str) -> Kind:
        """Tell which attention a module is, now that it is called."""
        if self.depth_in_encoder:
            return "encoder"
        number = re.search(r"(^|\.)\d+(\.|$)", name)
        if CROSS.search(name[number.end() :] if number else name) or getattr(module, "is_cross_attention", False):
            return "cross"
        return "decoder" if self.has_two_halves or getattr(module, "is_causal", False) else "encoder"

    def chosen(self, module: nn.Module) -> tuple[Kind, int, str] | None:
        """Return kind, layer and name of a module that is about to attend, if it is of a chosen layer of this model."""
        name = self.names.get(id(module))
        if name is None:
            return None
        number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
        layer = int(number[1]) if number else int(getattr(module, "layer_idx", None) or 0)
        kind = self.kind_of(module, name)
        self.layers_by_kind.setdefault(kind, set()).add(layer)
        if (self.kinds and kind not in self.kinds) or (self.layers is not None and layer not in self.layers):
            return None
        return kind, layer, name

    def note(self, module: nn.Module, query: torch.Tensor, key, value, mask, options: dict[str, Any]) -> None:
        """Reduce one call of the kernel, if it is of a chosen layer of this model."""
        if (place := self.chosen(module)) is None:
            return
        kind, layer, name = place
        if _kernel(module).startswith("paged|"):
            raise ValueError("generate_batch keeps its keys in pages, which capture does not read: use generate")
        count = query.shape[1]
        heads = list(range(count)) if self.heads is None else [_head(head, count, name) for head in self.heads]
        record = self.seen.setdefault((kind, layer), Layer(kind, layer, heads, name))
        if record.name != name:
            raise ValueError(f"{record.name} and {name} are both {kind} layer {layer}: capture one part of the model")
        call = Attention(kind, layer, heads, query, key, value, 1.0, mask)
        record.calls.append(self.reduce(_chosen(call, module, options)))

    def changed(self, output: Any, module: nn.Module, query, key, value, mask, options: dict[str, Any]) -> Any:
        """Return what the model goes on with after one call of the kernel: here what the kernel returned."""
        return output

    def check(self) -> None:
        """See that what was asked for exists.

        Raises:
            ValueError: No attention of the model came by, or none of a kind, or of a layer.
        """
        if not self.layers_by_kind:
            raise ValueError(
                f"{type(self.model).__name__}: no attention ran through the attention interface of transformers, "
                "where its weights are seen"
            )
        for kind in self.kinds or ():
            if kind not in self.layers_by_kind:
                known = ", ".join(self.layers_by_kind)
                raise ValueError(f"kind {kind!r}: {type(self.model).__name__} has none; it has {known}")
        ran = set().union(*(self.layers_by_kind[kind] for kind in self.kinds or self.layers_by_kind))
        for layer in self.layers or ():
            if layer not in ran:
                raise ValueError(f"layer {layer} does not exist; {type(self.model).__name__} has {_span(ran)}")


def _head(head: Any, count: int, name: str) -> int:
    if isinstance(head, bool) or not isinstance(head, int) or not 0 <= head < count:
        raise ValueError(f"head {head!r} does not exist; {name} has {count}, from 0 to {count - 1}")
    return head


def _span(numbers: Collection[int]) -> str:
    ordered = sorted(numbers)
    whole = ordered == list(range(ordered[0], ordered[-1] + 1)) and len(ordered) > 1
    return f"{ordered[0]} to {ordered[-1]}" if whole else ", ".join(map(str, ordered))


def _of(heads: list[int], count: int, tensor: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """Return of a tensor what belongs to these heads, out of `count`; several heads may share one of the tensor's."""
    stored = tensor.shape[dim]
    if stored == count and heads == list(range(count)):
        return tensor.detach()
    index = torch.tensor([head * stored // count for head in heads], device=tensor.device)
    return tensor.detach().index_select(dim, index)


def _chosen(call: Attention, module: nn.Module, options: dict[str, Any]) -> Attention:
    """Keep the chosen heads of a call, and read what else the kernel was told."""
    count, heads = call.query.shape[1], call.heads
    bias, sinks, is_causal, scaling = (options.get(n) for n in ("position_bias", "s_aux", "is_causal", "scaling"))
    call.query, call.key, call.value = (_of(heads, count, one) for one in (call.query, call.key, call.value))
    if torch.is_tensor(call.mask) and call.mask.dim() == 4 and call.mask.shape[1] > 1:
        call.mask = _of(heads, count, call.mask)
    call.bias = None if bias is None else bias.detach() if bias.shape[1] == 1 else _of(heads, count, bias)
    call.sinks = None if sinks is None else _of(heads, count, sinks, 0)
    call.scaling = float(call.query.shape[-1] ** -0.5 if scaling is None else scaling)
    call.softcap = options.get("softcap")
    call.is_causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    if "flash" in _kernel(module):
        call.offset, call.window = call.size[1] - call.size[0], options.get("sliding_window")
    return call


def _kernel(module: nn.Module) -> str:
    return str(getattr(getattr(module, "config", None), "_attn_implementation", None))


# Open captures of this thread: a model that another thread runs at the same time is not seen.
_open: ContextVar[tuple[_Capture, ...]] = ContextVar("open captures", default=())


class _Watched:
    """A kernel that shows the open captures of its thread what it gets, and then runs."""

    def __init__(self, kernel: Callable[..., Any]):
        self.kernel = kernel

    def __call__(self, module: nn.Module, query, key, value, attention_mask=None, *args: Any, **options: Any) -> Any:
        with torch.no_grad():
            for capture_ in _open.get():
                capture_.note(module, query, key, value, attention_mask, options)
        output = self.kernel(module, query, key, value, attention_mask, *args, **options)
        for capture_ in _open.get():
            output = capture_.changed(output, module, query, key, value, attention_mask, options)
        return output


class _Interface:
    """The lookup of kernels, replaced while a capture is open anywhere."""

    lock = threading.Lock()
    captures = 0
    original: Callable[..., Any] = AttentionInterface.get_interface

    @classmethod
    def enter(cls) -> None:
        with cls.lock:
            cls.captures += 1
            if cls.captures == 1:
                cls.original = AttentionInterface.get_interface
                AttentionInterface.get_interface = _lookup
                AttentionInterface.__getitem__ = _item

    @classmethod
    def leave(cls) -> None:
        with cls.lock:
            cls.captures -= 1
            if not cls.captures:
                AttentionInterface.get_interface = cls.original
                del AttentionInterface.__getitem__  # that of its parent shows again


def _lookup(interface: AttentionInterface, name: str, default: Callable[..., Any]) -> Any:
    return _watched(_Interface.original(interface, name, default))


def _item(interface: AttentionInterface, name: str) -> Any:
    return _watched(super(AttentionInterface, interface).__getitem__(name))  # models that look a kernel up by name


def _watched(kernel: Any) -> Any:
    return _Watched(kernel) if _open.get() and not isinstance(kernel, _Watched) else kernel


@contextmanager
def capture(
    model: nn.Module,
    layers: Collection[int] | None = None,
    heads: Collection[int] | None = None,
    kind: Kind | Collection[Kind] | None = None,
    reduce: Reduce = full,
) -> Iterator[Seen]:
    """Collect the attention weights of a model while it runs, in a forward pass or inside `generate`.

    The model keeps its kernel and its output. Open it in the thread that runs the model; what other threads run
    meanwhile is not seen. It may be nested. At the end nothing stays changed, after an error too.

    Args:
        model: Any model of transformers that uses its attention interface, or a part of one.
        layers: Which layers, from 0; all unless told.
        heads: Which heads of them, from 0; all unless told.
        kind: "encoder", "decoder", "cross", or several of them; all unless told.
        reduce: What to keep of each call: `full`, `top(k)`, `averaged(cells)`, or a function of an `Attention`.

    Yields:
        A dict from (kind, layer) to `Layer`, in the order in which they first run; it fills while the model runs.

    Raises:
        ValueError: A head does not exist (in the forward pass); no attention ran through the interface, or none of
            that kind, or a layer does not exist (at the end).

    Example:
        >>> with capture(model, layers=[0], reduce=top(8)) as seen:
        ...     model(**inputs)
        >>> weights, columns = seen["encoder", 0].calls[0]
    """
    opened = _Capture(model, layers, heads, cast(Any, kind), reduce)
    with watching(opened):
        yield opened.seen


@contextmanager
def watching(opened: _Capture) -> Iterator[None]:
    """Let one capture see the kernels that its model calls in this thread, and check in the end what it saw."""
    with ExitStack() as stack:
        opened.watch_encoder(stack)
        _Interface.enter()
        stack.callback(_Interface.leave)
        token = _open.set((*_open.get(), opened))
        stack.callback(_open.reset, token)
        yield
        opened.check()
