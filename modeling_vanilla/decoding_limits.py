# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What the search of `decoding` does, and what it leaves to transformers, each with its reason."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.generation import EosTokenCriteria, GenerationMode, MaxLengthCriteria, logits_process
from transformers.generation.utils import GENERATION_MODES_MAPPING
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention import MultiHeadAttention, scaled_dot_product_attention
from .cache_name import NAMES
from .embeddings import default_position_ids
from .layers import DecoderLayer, FeedForward

MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE, GenerationMode.BEAM_SEARCH)
# What `generate` hands on besides, and what it may be.
ARGUMENTS = {"attention_mask", "encoder_outputs", "position_ids", "use_cache", "logits_to_keep", *NAMES}
# Processors that look at a row alone: it may change its number.
ROW_BY_ROW = {
    getattr(logits_process, name, None)
    for name in (
        "MinLengthLogitsProcessor MinNewTokensLengthLogitsProcessor TemperatureLogitsWarper TopPLogitsWarper "
        "TopKLogitsWarper RepetitionPenaltyLogitsProcessor NoRepeatNGramLogitsProcessor NoBadWordsLogitsProcessor "
        "SequenceBiasLogitsProcessor ForcedBOSTokenLogitsProcessor ForcedEOSTokenLogitsProcessor "
        "SuppressTokensLogitsProcessor SuppressTokensAtBeginLogitsProcessor InfNanRemoveLogitsProcessor"
    ).split()
}


class OwnLimit(StoppingCriteria):
    """Ends each row of a batch at its own length, as if it were alone (decision 010)."""

    def __init__(self, limits: list[int]):
        self.limits = torch.tensor(limits)
        self.prompt: int | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs) -> torch.BoolTensor:
        """Tell for each row of (B * N, T), or of B times the beams, whether it has reached its limit."""
        if self.prompt is None:
            self.prompt = input_ids.shape[1] - 1  # the first call comes behind the first new token
        done = self.limits.le(input_ids.shape[1] - self.prompt).to(input_ids.device)
        return done.repeat_interleave(input_ids.shape[0] // len(done))


class Interrupted(StoppingCriteria):
    """Ends all rows where a function says so."""

    def __init__(self, is_interrupted: Callable[[], bool]):
        self.is_interrupted = is_interrupted

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs) -> torch.Tensor:
        """Return for each row whether it ends here."""
        return torch.full((len(input_ids),), self.is_interrupted(), device=input_ids.device)


def hand_over(model, ids: torch.Tensor, criteria, is_interrupted: Callable[[], bool] | None, kwargs: dict):
    """Let transformers search as it would have without a function."""
    config = kwargs["generation_config"]
    if is_interrupted is not None:
        criteria = StoppingCriteriaList([*criteria, Interrupted(is_interrupted)])
    # A function is not told that ranks that share a sharded model have to step together.
    together = model._extract_generation_mode_kwargs(None, {}, None, None, None).get("synced_gpus", False)
    method = getattr(type(model), GENERATION_MODES_MAPPING[config.get_generation_mode()])
    return method(model, ids, stopping_criteria=criteria, **({"synced_gpus": together} | kwargs))


def search_of(model) -> Callable[..., Any] | None:
    """Return the search that came with a model's own code (remote code), or None where that is this one."""
    package = type(model).__module__.rpartition(".")[0]
    if model.config.model_type != "vanilla" or package == __name__.rpartition(".")[0]:
        return None
    try:
        return importlib.import_module(f"{package}.decoding").search
    except (ImportError, AttributeError):  # an earlier release: its layers are not those of this code
        return None


def leaves_no_trace(processor: Any) -> bool:
    """Tell whether a processor of logits treats a row alike whatever its number."""
    is_known_by_row = torch.is_tensor(getattr(processor, "prompt_ignore_length", None))  # of a repetition penalty
    return type(processor) in ROW_BY_ROW and not is_known_by_row


def unhandled(
    model: PreTrainedModel, ids: torch.Tensor, criteria, config: GenerationConfig, kwargs: dict
) -> str | None:
    """Return why a search is transformers' to do, in a few words; None where it is ours."""
    mode = config.get_generation_mode()
    if mode not in MODES:
        return f"generation_mode={mode.value!r}"
    for name in ("output_attentions", "output_hidden_states", "output_logits", "token_healing", "low_memory"):
        if getattr(config, name, None):
            return f"{name}=True"
    if config.use_cache is False or kwargs.get("use_cache") is False:
        return "use_cache=False"
    if config.cache_implementation not in (None, "dynamic", "dynamic_full") or getattr(config, "compile_config", None):
        return f"cache_implementation={config.cache_implementation!r} or a compiled step"
    strange = [one for one in criteria if type(one) not in (EosTokenCriteria, MaxLengthCriteria, OwnLimit)]
    if strange:
        return f"the stopping criterion {type(strange[0]).__name__}"
    return _of_inputs(model, ids, kwargs) or _of_model(model, ids, config)


def _of_inputs(model: PreTrainedModel, ids: torch.Tensor, kwargs: dict) -> str | None:
    given = {name for name, value in kwargs.items() if value is not None and value is not False}
    if given - ARGUMENTS:
        return f"the argument {min(given - ARGUMENTS)}"
    caches = [kwargs[name] for name in NAMES if kwargs.get(name) is not None]
    for cache in caches:
        inner = (
            (cache.self_attention_cache, cache.cross_attention_cache)
            if isinstance(cache, EncoderDecoderCache)
            else (cache,)
        )
        if any(type(one) is not DynamicCache or one.get_seq_length() for one in inner):
            return "a cache that is given"
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.dim() != 2:
        return "a mask that is not (B, S)"
    if model.config.is_encoder_decoder:
        return "a target that is begun" if ids.shape[1] != 1 or kwargs.get("position_ids") is not None else None
    positions = kwargs.get("position_ids")
    if positions is not None:
        usual = default_position_ids(mask, ids.shape[1], 0, positions.device)
        # A padded place has position 0 here and 1 in transformers; no one sees it.
        seen = torch.ones_like(positions, dtype=torch.bool) if mask is None else mask.to(positions.device).ne(0)
        if positions.shape[-1] != ids.shape[1] or ((positions != usual) & seen).any():
            return "positions of the caller's own"
    if mask is not None and mask.shape == ids.shape and mask[:, :-1].gt(mask[:, 1:]).any():
        return "padding that is not on the left"
    return None


def _of_model(model: PreTrainedModel, ids: torch.Tensor, config: GenerationConfig) -> str | None:
    """Return what keeps the layers of a model from being computed by another code than their own."""
    decoder = getattr(getattr(model, "model", None), "decoder", None)
    layers = getattr(decoder, "layers", None)
    if not layers or model.config.model_type != "vanilla" or not all(type(layer) is DecoderLayer for layer in layers):
        return f"a {type(model).__name__}"
    if model.training:
        return "a model in training mode, which drops units"
    if model.config.attention_window is not None:
        return "attention_window"
    if ids.shape[1] + 1 > config.max_length or config.max_length - 1 > model.config.max_position_embeddings:
        return f"max_length={config.max_length}"
    kernel = ALL_ATTENTION_FUNCTIONS.get_interface(model.config._attn_implementation, scaled_dot_product_attention)
    if kernel not in (scaled_dot_product_attention, *_sdpa()):  # another one, or one that is watched
        return f"attn_implementation={model.config._attn_implementation!r}"
    if nn.modules.module._global_forward_hooks or nn.modules.module._global_forward_pre_hooks:
        return "a hook of all modules"
    for module in model.modules():
        if "forward" in vars(module) or any(map(_changes, _hooks(module))):
            return f"a {type(module).__name__} with a hook"
    for layer in layers:
        parts = [layer.feed_forward, layer.self_attn, *([layer.cross_attn] if hasattr(layer, "cross_attn") else [])]
        projections = [getattr(part, name) for part in parts[1:] for name in ("q_proj", "k_proj", "v_proj")]
        plain = type(parts[0]) is FeedForward and all(type(part) is MultiHeadAttention for part in parts[1:])
        plain = plain and all(type(one) is nn.Linear and type(one.weight) is nn.Parameter for one in projections)
        if not plain or len({one.weight.device for one in projections}) > 1:
            return "layers that were changed, quantised or spread"
    return None


def _sdpa() -> tuple:
    table = type(ALL_ATTENTION_FUNCTIONS)._global_mapping
    return (table["sdpa"],) if "sdpa" in table else ()


def _hooks(module: nn.Module) -> list:
    return [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]


def _changes(hook: Any) -> bool:
    """Tell whether a hook may change or see a forward; those of transformers that record outputs on request may not."""
    return getattr(hook, "__module__", "") != "transformers.utils.output_capturing"
