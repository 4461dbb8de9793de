# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The attention weights of a model while it runs, for any model of transformers that calls its attention interface.

The model runs on the kernel that it has. The weights of the chosen layers and heads are computed beside it by weights.py
from the queries and keys that the kernel gets.
Dimension letters as in weights.py.
"""

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

from .view import Kind
from .weights import Attention, Reduce, full

CROSS = re.compile("cross|encoder_attn|encdec|enc_dec|encoder_decoder", re.IGNORECASE)
"""What the attention over the encoder is called: crossattention (BERT), encoder_attn (BART), EncDecAttention (T5)."""


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


class Watch:
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
        record.calls.append(self.reduce(of_chosen_heads(call, module, options)))

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


def of_chosen_heads(call: Attention, module: nn.Module, options: dict[str, Any]) -> Attention:
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
_open: ContextVar[tuple[Watch, ...]] = ContextVar("open captures", default=())


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

    The search of `decoding`, which the pipelines use, computes attention by itself and shows nothing: while a capture is
    open it leaves the work to transformers' search, which gives the same tokens more slowly.

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
    opened = Watch(model, layers, heads, cast(Any, kind), reduce)
    with watching(opened):
        yield opened.seen


@contextmanager
def watching(opened: Watch) -> Iterator[None]:
    """Let one capture see the kernels that its model calls in this thread, and check in the end what it saw."""
    with ExitStack() as stack:
        opened.watch_encoder(stack)
        _Interface.enter()
        stack.callback(_Interface.leave)
        token = _open.set((*_open.get(), opened))
        stack.callback(_open.reset, token)
        yield
        opened.check()
