# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Who sees whom (Vaswani et al. 2017, sec. 3.2.3), and masks in the form that a kernel reads.

The stacks make one mask for all layers with `transformers.masking_utils`, from this file's rule of a window. A layer or
an attention that is called alone gets none; `own_mask` makes it there, so that every kernel keeps the same rules.
Dimension letters: B batch, T query length, S key length.
"""

import math

import torch
from transformers.cache_utils import Cache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.utils.import_utils import is_tracing

from .cache_name import is_paged
from .configuration_vanilla import VanillaConfig

# The kernels that read a mask of numbers or booleans. Others (flash attention, vLLM's) keep to `is_causal` themselves.
READ_MASKS = ("eager", "sdpa", "flex_attention")


def kernel_of(config: VanillaConfig) -> str:
    """Return the name of the kernel; `generate_batch` calls it by another name while it runs."""
    return (config._attn_implementation or "eager").rpartition("|")[2]


def neighbourhood(config: VanillaConfig, paged: bool = False):
    """Return the rule of restricted self-attention, |i - j| <= window // 2 (Vaswani et al. 2017, sec. 4), or None.

    Args:
        config: The model's numbers and kernel.
        paged: The caller is `generate_batch`, which keeps the cache and makes the mask itself.

    Raises:
        ValueError: The kernel takes no mask, or takes that of `generate_batch`, and would ignore the window.
    """
    window = config.attention_window
    if window is None:
        return None
    # transformers makes no mask for a kernel that it does not know, such as vLLM's.
    kernel = config._attn_implementation or "eager"
    if paged or "flash" in kernel or kernel not in ALL_MASK_ATTENTION_FUNCTIONS.valid_keys():
        culprit = "generate_batch" if paged else f"attn_implementation={kernel!r}"
        raise ValueError(
            f"attention_window={window} is a mask, which {culprit} would ignore; use 'eager', 'sdpa' or "
            "'flex_attention', and generate"
        )
    return lambda batch, head, query, key: (query - key).abs() <= window // 2


def own_mask(
    config: VanillaConfig, is_causal: bool, cache: Cache | None, layer_idx: int, query: torch.Tensor, key: torch.Tensor
) -> torch.Tensor | None:
    """Return the mask of self-attention that was given none: booleans (T, S), or None where the kernel needs none.

    Args:
        config: The model's numbers and kernel.
        is_causal: No query sees a later key.
        cache: What the keys came through.
        layer_idx: Number of the layer within the cache.
        query: (B, H, T, K).
        key: (B, H, S, K), those of the cache first. A static cache has room behind the last one; one with a window
            begins later than the row.

    Raises:
        ValueError: See `neighbourhood`.
    """
    paged = is_paged(cache)
    if not is_causal and config.attention_window is None:
        return None
    rule, kernel = neighbourhood(config, paged), kernel_of(config)
    if paged or kernel not in READ_MASKS:
        return None
    length, total = query.shape[2], key.shape[2]
    before = 0 if cache is None else cache.get_seq_length(layer_idx) - length
    if torch.is_tensor(before):  # of a static cache
        if is_tracing(before):
            return None  # the stacks made a mask where one is needed
        before = int(before)
    sees_all = length == 1 and total == before + 1
    if rule is None and (sees_all or (kernel == "sdpa" and before == 0 and length > 1)):  # sdpa reads `is_causal`
        return None
    places = torch.arange(before, before + length, device=query.device)[:, None]  # (T, 1)
    gone = max(before + length - total, 0)  # what a cache with a window has let go of
    keys = torch.arange(gone, gone + total, device=query.device)  # (S,)
    seen = keys <= places if is_causal else torch.ones(length, total, dtype=torch.bool, device=query.device)
    return seen if rule is None else seen & rule(0, 0, places, keys)


def check_kept(config: VanillaConfig, mask, cache: Cache | None, length: int) -> None:
    """Check that a mask of pairs (B, 1, T, S) is as wide as the keys of a cache with a window, and `length` new ones.

    Raises:
        ValueError: It is over keys that the cache has let go of, or misses some.
    """
    if (
        getattr(config, "sliding_window", None) is None
        or cache is None
        or not torch.is_tensor(mask)
        or mask.dim() != 4
    ):
        return
    kept = cache.get_mask_sizes(length, 0)[0]
    if mask.shape[3] not in (1, kept):
        raise ValueError(
            f"attention_mask is over {mask.shape[3]} keys and must be over {kept}: with attention_window="
            f"{config.attention_window} a cache keeps the last ones only; DynamicCache() without a config keeps all"
        )


def as_read(mask, config: VanillaConfig, query: torch.Tensor, key: torch.Tensor):
    """Return a mask in the form in which the kernel of `config` takes it for what it says.

    Args:
        mask: Broadcastable to (B, H, T, S): booleans (True = may be attended) or numbers that are added to the scores,
            where the lowest number of their type means never, as -inf does. Or a block mask, or None.
        config: Names the kernel.
        query: (B, H, T, K).
        key: (B, H, S, K).

    Raises:
        ValueError: The mask holds integers, which could mean either; or it differs between heads, and flex attention
            would read that of the first head for all.
    """
    kernel = kernel_of(config)
    if not torch.is_tensor(mask) or kernel not in READ_MASKS:
        return mask
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(
            f"attention_mask is of type {mask.dtype}; give booleans (True = attend) or numbers that are added to the "
            "scores (0 = attend, -inf = never)"
        )
    if kernel == "eager":  # it reads all of them
        return mask
    if mask.dtype != torch.bool:
        mask = mask.masked_fill(mask <= torch.finfo(mask.dtype).min, -math.inf).to(query.dtype)
    if kernel == "flex_attention":
        if mask.dim() == 4 and mask.shape[1] > 1:
            raise ValueError(
                f"attention_mask has {mask.shape[1]} heads, flex_attention reads one mask for all: give 1"
            )
        if mask.dtype == torch.bool:  # it adds them
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -math.inf)
        mask = mask.expand(query.shape[0], 1, -1, key.shape[2])
    return mask
