# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What stands between the stacks and the losses: shifting, picking, joining, and the layers of the heads.

Dimension letters: B batch, T length, D d_model, C classes.
"""

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    ModelOutput,
    Seq2SeqModelOutput,
)

from .cache_name import CACHE, as_installed
from .configuration_vanilla import VanillaConfig
from .dropout import Dropout
from .input_checks import can_read
from .layers import make_activation
from .losses import IGNORE


def shift_right(
    labels: torch.Tensor, config: VanillaConfig, attention_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return what the decoder reads to predict `labels` (B, T): the start token, then all but the last (sec. 3.1).

    The start token stands at the first real place, behind padding on the left. What is real is told by an
    `attention_mask` (B, T), else by the labels: -100 at the beginning of a row is padding.
    """
    if config.decoder_start_token_id is None or config.pad_token_id is None:
        raise ValueError(
            f"decoder_start_token_id={config.decoder_start_token_id} and pad_token_id={config.pad_token_id} must be "
            "set in the config to make decoder_input_ids from labels"
        )
    if attention_mask is None:
        attention_mask = labels.ne(IGNORE)
    shifted = nn.functional.pad(labels[:, :-1], (1, 0), value=config.pad_token_id)
    shifted = shifted.masked_fill(shifted == IGNORE, config.pad_token_id)
    return shifted.masked_fill(start_places(labels, attention_mask), config.decoder_start_token_id)


def mask_of_left_padding(ids: torch.Tensor, config: VanillaConfig) -> torch.Tensor | None:
    """Return the mask (B, T) of what a decoder reads, 0 for padding before the start token; None where none is seen.

    A collator that pads labels on the left hands on what `shift_right` made of them, without a mask.
    """
    if config.pad_token_id is None or config.decoder_start_token_id is None or ids.is_meta:
        return None
    if ids.dim() != 2 or ids.shape[1] < 2:  # the checks of the decoder come later
        return None
    other = ids.ne(config.pad_token_id)
    first = other.int().argmax(-1, keepdim=True)  # (B, 1), the first token that does not pad
    if config.decoder_start_token_id == config.pad_token_id:  # the start stands before it, or last (Marian)
        first = torch.where(other.any(-1, keepdim=True), first - 1, ids.shape[1] - 1).clamp(min=0)
    starts = ids.gather(1, first).eq(config.decoder_start_token_id)
    mask = 1 - (starts & (torch.arange(ids.shape[1], device=ids.device) < first)).long()
    return None if can_read(mask) and bool(mask.all()) else mask


def start_places(tokens: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Tell where the start token of `tokens` (B, T, ...) stands: booleans (B or 1, T), one True in each row."""
    places = torch.arange(tokens.shape[1], device=tokens.device)[None]
    if attention_mask is None:
        return places == 0
    return places == attention_mask.to(tokens.device).ne(0).int().argmax(-1, keepdim=True)


def keep(hidden_states: torch.Tensor, logits_to_keep: int | torch.Tensor) -> torch.Tensor:
    """Return the last `logits_to_keep` positions of (B, T, D), all for 0, or those that a 1-D tensor names."""
    if isinstance(logits_to_keep, int):
        return hidden_states if logits_to_keep == 0 else hidden_states[:, -logits_to_keep:]
    return hidden_states[:, logits_to_keep]


def pool(
    hidden_states: torch.Tensor,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    config: VanillaConfig,
) -> torch.Tensor:
    """Pick one vector of each sequence of (B, T, D): (B, D).

    An encoder's is that of the first real token (BERT), a decoder's that of the last one (GPT-2), since only that one
    has seen the rest. What is real is read from the mask, else from pad_token_id.
    """
    places = torch.arange(hidden_states.shape[1], device=hidden_states.device)
    if attention_mask is not None and attention_mask.dim() == 2:
        real = attention_mask.ne(0).to(hidden_states.device)
    elif input_ids is not None and config.pad_token_id is not None:
        real = input_ids.ne(config.pad_token_id)
    else:
        real = torch.ones_like(places, dtype=torch.bool).expand(hidden_states.shape[:2])
    order = -places if config.variant == "encoder" else places
    index = torch.where(real, order, -places.numel()).argmax(-1)  # (B,)
    return hidden_states[torch.arange(hidden_states.shape[0], device=hidden_states.device), index]


def both_outputs(encoded: BaseModelOutput, decoded: BaseModelOutputWithPastAndCrossAttentions) -> Seq2SeqModelOutput:
    """Put what an encoder and a decoder gave into the output of both."""
    return Seq2SeqModelOutput(
        last_hidden_state=decoded.last_hidden_state,
        **as_installed(decoded.get(CACHE)),
        decoder_hidden_states=decoded.hidden_states,
        decoder_attentions=decoded.attentions,
        cross_attentions=decoded.cross_attentions,
        encoder_last_hidden_state=encoded.last_hidden_state,
        encoder_hidden_states=encoded.hidden_states,
        encoder_attentions=encoded.attentions,
    )


def states(out: ModelOutput) -> dict[str, Any]:
    """Return what the output of a model with a head takes over from that of the stacks: all but the last states."""
    return {name: value for name, value in out.items() if name != "last_hidden_state"}


class PredictionTransform(nn.Module):
    """The layer between encoder and vocabulary in BERT's masked language model (Devlin et al. 2019): (B, T, D)."""

    def __init__(self, config: VanillaConfig):
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.activation = make_activation(config)
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (B, T, D) to (B, T, D)."""
        return self.norm(self.activation(self.dense(hidden_states)))


class ClassificationHead(nn.Module):
    """BERT's pooler and classifier (Devlin et al. 2019): one vector (B, D) to scores (B, C)."""

    def __init__(self, config: VanillaConfig, num_outputs: int):
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.dropout = Dropout(config.dropout)
        self.out_proj = nn.Linear(config.d_model, num_outputs)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map (B, D), or (B, 1, D) as vLLM gives it, to (B, C)."""
        pooled = pooled[:, 0] if pooled.dim() == 3 else pooled
        return self.out_proj(self.dropout(torch.tanh(self.dense(pooled))))
