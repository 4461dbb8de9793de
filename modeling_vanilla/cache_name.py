# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The one place that knows what transformers calls a cache of keys and values.

Up to 5.23 it is the input and output `past_key_values`; 5.24 renamed both to `cache`. Inside this package it is `cache`.
`generate_batch` brings a paged cache, which always came as `cache`: it is told by its type, never by its name.
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import EncoderDecoderCache
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.masking_utils import create_causal_mask
from transformers.utils.import_utils import is_torchdynamo_compiling

# What the installed transformers calls it. Its masks are asked, since they hand the name on to nothing else.
CACHE = "cache" if "cache" in inspect.signature(create_causal_mask).parameters else "past_key_values"
NAMES = ("cache", "past_key_values")


def takes_cache(forward: Callable) -> Callable:
    """Let a `forward` with an argument `cache` take it by either name; its signature shows the installed one.

    The old name earns the warning that transformers gives for it, from the version on that has the new one.

    Raises (in the call):
        ValueError: both names are given, or something else than a cache.
    """

    @functools.wraps(forward)
    def named(*args, **kwargs):
        old = kwargs.pop("past_key_values", None)
        if old is not None:
            if kwargs.get("cache") is not None:
                raise ValueError("cache and past_key_values are two names of one input; give one of them")
            if CACHE == "cache" and not is_torchdynamo_compiling():
                warnings.warn("`past_key_values` is deprecated; transformers calls it `cache`", FutureWarning, 2)
            kwargs["cache"] = old
        return forward(*args, **kwargs)

    signature = inspect.signature(forward)
    # Of the function that is wrapped: torch binds arguments to the wrapper's own signature when it compiles, as vLLM does.
    forward.__signature__ = signature.replace(
        parameters=[p.replace(name=CACHE) if p.name == "cache" else p for p in signature.parameters.values()]
    )
    return named


def as_installed(cache: Any) -> dict[str, Any]:
    """Return a cache as the keyword, or the field of an output, that the installed transformers expects."""
    return {CACHE: cache}


def is_paged(cache: Any) -> bool:
    """Tell whether a cache is that of `generate_batch`, which makes its own masks and knows its own lengths."""
    return isinstance(cache, PagedAttentionCache)


def check_cache(cache: Any, is_encoder_decoder: bool) -> None:
    """Check that a cache is one that the model can keep its keys and values in.

    Raises:
        ValueError: it is none (a tuple of tensors, as years ago), or has no room for the keys of the encoder's output,
            which would come to stand among those of the target.
    """
    if cache is None or is_paged(cache):
        return
    fits = isinstance(cache, EncoderDecoderCache) if is_encoder_decoder else hasattr(cache, "get_seq_length")
    if not fits:
        expected = "EncoderDecoderCache" if is_encoder_decoder else "Cache"
        raise ValueError(f"{CACHE} must be a {expected} of transformers, got a {type(cache).__name__}")


def update(
    cache: Any, key: torch.Tensor, value: torch.Tensor, layer_idx: int, kernel_inputs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add keys and values (B, H, S, K) to one layer of a cache, and return all that it holds now.

    A paged cache reads its places from the inputs of the kernel and writes there what the kernel has to know. The
    kernels of transformers 5.23 and older update it themselves; they get it among their inputs.
    """
    if not is_paged(cache):
        masked = _masked(cache, key.shape[2], layer_idx)
        keys, values = cache.update(key, value, layer_idx)
        return (keys, values) if masked is None else (keys[:, :, -masked:], values[:, :, -masked:])
    if CACHE == "cache":
        return cache.update(key, value, layer_idx, kwargs=kernel_inputs)
    kernel_inputs["cache"] = cache
    return key, value


def _masked(cache: Any, length: int, layer_idx: int) -> int | None:
    """Return how many keys the mask of `length` new tokens is over, where a layer with a window holds more.

    One that records what it may have to give back (assisted decoding, transformers 5.17) makes its masks as if it did not.
    """
    layers = getattr(cache, "layers", ())
    is_recording = layer_idx < len(layers) and getattr(layers[layer_idx], "record_past", False)
    return cache.get_mask_sizes(length, layer_idx)[0] if is_recording else None
