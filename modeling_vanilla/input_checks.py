# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Checks of a forward call's inputs: a ValueError that names the values, before anything is computed.

Values are read on the CPU only and never while a graph is traced; on a GPU reading them would stall every step, so
there only shapes are checked. Dimension letters: B batch, T length.
"""

from typing import Any

import torch
from torch import nn
from transformers.utils.import_utils import is_tracing

from .cache_name import is_paged
from .configuration_vanilla import VanillaConfig
from .losses import IGNORE

# Tensors that reach a forward beside its own arguments, and who hands them in: all are for the attention kernels, or are
# used by the caller itself. Whatever else holds a tensor or a cache is refused, since it would be ignored.
# tests/clients/test_inputs.py records the names from real calls, with transformers 5.17 to 5.24.
KERNEL_INPUTS = {
    "cu_seq_lens_q": "DataCollatorWithFlattening, TRL, generate_batch: where packed rows begin",
    "cu_seq_lens_k": "the same of keys; generate_batch has one for each kind of layer since 5.23",
    "max_length_q": "the same callers: the longest of them; a tensor on a GPU",
    "max_length_k": "the same of keys",
    "max_seqlen_q": "generate_batch of 5.17: max_length_q",
    "max_seqlen_k": "generate_batch of 5.17: max_length_k",
    "seq_idx": "DataCollatorWithFlattening, TRL: the number of the row that a token is of",
    "read_index": "generate_batch: places of the paged cache that are read",
    "write_index": "generate_batch: places of the paged cache that are written",
    "block_table": "generate_batch with flash attention: pages of the cache",
    "logits_indices": "generate_batch: tokens whose logits it looks at; it picks them itself",
    "logits_processor_args": "generate_batch: settings of each request, for its own logits processors",
}
# What generate hands to an encoder from what it was called with, for the rest of an encoder-decoder, ours or assembled.
GENERATES_ENCODER_INPUTS = {"labels": "Seq2SeqTrainer", "cross_attention_mask": "packed sources"}


def can_read(tensor: torch.Tensor) -> bool:
    """Tell whether values of `tensor` are there to be read at no cost: on the CPU and not traced."""
    return tensor.device.type == "cpu" and not is_tracing(tensor)


def may_be_packed(position_ids: torch.Tensor | None, attention_mask: torch.Tensor | None) -> bool:
    """Tell whether a row may hold several sequences: its positions are given and restart, and no mask marks padding.

    So do collators without padding, `generate_batch` and vLLM lay out their sequences. Where positions cannot be read
    at no cost, they are taken to restart.
    """
    padded = torch.is_tensor(attention_mask) and attention_mask.dim() == 2
    if position_ids is None or padded:
        return False
    return not can_read(position_ids) or bool((position_ids[..., 1:] <= position_ids[..., :-1]).any())


def _holds_tensor(value: Any) -> bool:
    """Tell whether a value is a tensor or a cache, or holds one."""
    if isinstance(value, list | tuple):
        return any(map(_holds_tensor, value))
    if isinstance(value, dict):
        return any(map(_holds_tensor, value.values()))
    return torch.is_tensor(value) or hasattr(value, "get_seq_length") or is_paged(value)


def check_unknown(inputs: dict[str, Any], of_generate: bool = False) -> None:
    """Check that no input is lost: a mistyped mask, or one that a newer transformers calls by another name.

    Args:
        inputs: What a forward was given beside its own arguments; all of it goes to the attention kernels.
        of_generate: The caller may be generate, which gives an encoder what is meant for the rest of the model.

    Raises:
        ValueError: One that is unknown holds a tensor or a cache. Switches are left alone: they change no input.
    """
    for name, value in inputs.items():
        known = name in KERNEL_INPUTS or (of_generate and name in GENERATES_ENCODER_INPUTS)
        if not known and _holds_tensor(value):
            raise ValueError(
                f"{name} is not an input of this model, and would be ignored; it is a {type(value).__name__}"
            )


def check_variant(variant: str, reader: str, **inputs: Any) -> None:
    """Check that a model is not given what only another variant, `reader`, reads.

    Raises:
        ValueError: It is, and would be ignored.
    """
    names = [name for name, value in inputs.items() if value is not None]
    if names and variant != reader:
        raise ValueError(f"{names[0]} must be None with variant={variant!r}; only variant={reader!r} reads it")


def check_source_mask(mask: torch.Tensor | None, memory: torch.Tensor, name: str = "attention_mask") -> None:
    """Check that a mask of a source is as long as what the encoder gave (B, S, D).

    Raises:
        ValueError: It is not, with both shapes.
    """
    if mask is not None and mask.dim() == 2 and mask.shape != memory.shape[:2]:
        raise ValueError(f"{name} has shape {tuple(mask.shape)}, the encoder gave {tuple(memory.shape[:2])}")


def check_memory(
    config: VanillaConfig,
    reads_memory: bool,
    memory: torch.Tensor | None,
    mask: torch.Tensor | None,
    rows: int | torch.SymInt,
) -> None:
    """Check what a decoder is given of an encoder.

    Args:
        config: The model's numbers.
        reads_memory: The decoder has cross-attention.
        memory: The encoder's output (B, S, D).
        mask: (B, S), nonzero = real token; or (B, 1, T, S).
        rows: B of the decoder's own tokens.

    Raises:
        ValueError: A decoder without cross-attention is given something, which it would ignore; a decoder alone that has
            it is given nothing; another width; another B, other than 1, which is one source for all; a mask of another
            length.
    """
    inputs = {"encoder_hidden_states": memory, "encoder_attention_mask": mask}
    names = [name for name, value in inputs.items() if value is not None]
    if names and not reads_memory:
        raise ValueError(
            f"{names[0]} must be None for a decoder without cross-attention; build it with add_cross_attention=True"
        )
    if memory is None:
        if reads_memory and not config.is_encoder_decoder:
            raise ValueError("encoder_hidden_states are missing: a decoder with add_cross_attention=True reads them")
        return
    if memory.dim() != 3 or memory.shape[-1] != config.d_model:
        raise ValueError(
            f"encoder_hidden_states have shape {tuple(memory.shape)}, expected (batch, length, d_model={config.d_model})"
        )
    if memory.shape[0] not in (1, rows):
        raise ValueError(
            f"encoder_hidden_states are those of {memory.shape[0]} sources, the tokens have {rows} rows; a row for each "
            "is needed (several rows of one source: repeat_interleave)"
        )
    check_source_mask(mask, memory, "encoder_attention_mask")


def check_bias(lm_head: nn.Module) -> None:
    """Check that an output matrix has the bias that it was built with.

    Raises:
        ValueError: It has none: PEFT's `ensure_weight_tying` puts a map without one in its place.
    """
    if getattr(lm_head, "bias", None) is None:
        raise ValueError(
            "lm_head has lost its bias, as it does by ensure_weight_tying of PEFT; leave that out, or set lm_head_bias="
            "False in a translator"
        )


def check_inputs(
    config: VanillaConfig,
    input_ids: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    past_length: int | torch.SymInt | torch.Tensor,
    prefix: str = "",
    packed: bool = False,
) -> None:
    """Check what one stack is given.

    Args:
        config: The model's numbers.
        input_ids: (B, T) of an integer type, or None.
        inputs_embeds: (B, T, D), or None.
        attention_mask: (B, past_length + T), a prepared 4-D mask, or None.
        past_length: Number of tokens in the cache; a tensor (static cache) is read on the CPU only.
        prefix: Put before the names in messages: "decoder_" for the decoder of an encoder-decoder.
        packed: A row may hold several sequences, so that it may be longer than max_position_embeddings.

    Raises:
        ValueError: Not exactly one of ids and embeddings; wrong rank, type or size; an id outside the vocabulary; a
            sequence longer than max_position_embeddings; a mask of another length than the tokens, or a 4-D mask of
            integers, which could mean either 0 or 1.
    """
    if (input_ids is None) == (inputs_embeds is None):
        number = "neither" if input_ids is None else "both"
        hint = ""
        if prefix and number == "neither":
            hint = (
                "; to translate, call generate; to train, give labels, from which they are made: a Trainer with "
                "label_smoothing_factor takes labels away, so give the model to its DataCollatorForSeq2Seq, or set "
                "label_smoothing in the config instead"
            )
        raise ValueError(f"give exactly one of {prefix}input_ids and {prefix}inputs_embeds, got {number}{hint}")
    if input_ids is not None:
        _check_ids(config, input_ids, f"{prefix}input_ids")
    elif inputs_embeds.dim() != 3 or inputs_embeds.shape[-1] != config.d_model:
        raise ValueError(
            f"{prefix}inputs_embeds has shape {tuple(inputs_embeds.shape)}, expected (batch, length, {config.d_model})"
        )
    batch, length = (input_ids if input_ids is not None else inputs_embeds).shape[:2]
    if batch == 0 or length == 0:
        raise ValueError(f"{prefix}input of shape ({batch}, {length}) is empty; batch and length must be at least 1")
    if torch.is_tensor(past_length):  # a traced length may also be symbolic: neither an int nor a tensor
        if not can_read(past_length):
            return
        past_length = int(past_length)
    total = past_length + length
    if not packed and total > config.max_position_embeddings:
        raise ValueError(
            f"{prefix}input of {total} tokens is longer than max_position_embeddings={config.max_position_embeddings}"
        )
    if torch.is_tensor(attention_mask):  # else none, or the block mask of flex attention
        _check_mask(attention_mask, batch, length, past_length, prefix)


def _check_mask(attention_mask: torch.Tensor, batch: int, length: int, past_length: int, prefix: str) -> None:
    if attention_mask.dim() == 4 and not (attention_mask.dtype == torch.bool or attention_mask.is_floating_point()):
        raise ValueError(
            f"{prefix}attention_mask is 4-D of type {attention_mask.dtype}; give booleans (True = attend) or numbers "
            "that are added to the scores (0 = attend, -inf = never)"
        )
    if attention_mask.dim() == 2 and attention_mask.shape != (batch, past_length + length):
        raise ValueError(
            f"{prefix}attention_mask has shape {tuple(attention_mask.shape)}, expected ({batch}, {past_length + length}): "
            f"{past_length} cached and {length} new tokens"
        )


def _check_ids(config: VanillaConfig, input_ids: torch.Tensor, name: str) -> None:
    if input_ids.dim() != 2:
        raise ValueError(f"{name} has shape {tuple(input_ids.shape)}, expected (batch, length)")
    if input_ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} has type {input_ids.dtype}, expected torch.int64 or torch.int32")
    if input_ids.numel() and can_read(input_ids):
        low, high = (int(v) for v in torch.aminmax(input_ids))
        if low < 0 or high >= config.vocab_size:
            value = low if low < 0 else high
            row, column = input_ids.eq(value).nonzero()[0].tolist()
            raise ValueError(
                f"{name}[{row}, {column}]={value} is not in [0, {config.vocab_size}), the ids of vocab_size"
            )


def check_places(
    config: VanillaConfig,
    position_ids: torch.Tensor | None,
    token_type_ids: torch.Tensor | None,
    prefix: str = "",
) -> None:
    """Check positions (B or 1, T) and segment types (B, T) against the tables that they index.

    Raises:
        ValueError: One is out of range; types are not checked where the model has none and ignores them.
    """
    limits = {"position_ids": config.max_position_embeddings, "token_type_ids": config.type_vocab_size}
    for (name, size), ids in zip(limits.items(), (position_ids, token_type_ids), strict=True):
        if size and ids is not None and ids.numel() and can_read(ids):
            low, high = (int(v) for v in torch.aminmax(ids))
            if name == "position_ids" and 0 <= low and high >= size:
                raise ValueError(
                    f"{prefix}position_ids hold {high}: input of {high + 1} tokens is longer than "
                    f"max_position_embeddings={size}"
                )
            if low < 0 or high >= size:
                raise ValueError(f"{prefix}{name} hold {low if low < 0 else high}, which is not in [0, {size})")


def check_labels(labels: torch.Tensor, size: int) -> None:
    """Check that labels are -100 or in [0, size).

    Raises:
        ValueError: Another label, with its value.
    """
    if labels.numel() and can_read(labels):
        wrong = labels[((labels < 0) | (labels >= size)) & (labels != IGNORE)]
        if wrong.numel():
            raise ValueError(f"labels hold {int(wrong[0])}, which is neither {IGNORE} (ignored) nor in [0, {size})")
