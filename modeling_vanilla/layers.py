# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Encoder and decoder layers (Vaswani et al. 2017, sec. 3.1 and 3.3).

Dimension letters: B batch, T length, S source length, D d_model, F d_ff.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import MultiHeadAttention
from .cache_name import takes_cache
from .configuration_vanilla import VanillaConfig
from .dropout import Dropout

FUSED = {
    "gelu_new": "gelu_pytorch_tanh",
    "gelu_fast": "gelu_pytorch_tanh",
    "gelu_accurate": "gelu_pytorch_tanh",
    "gelu_python_tanh": "gelu_pytorch_tanh",
    "gelu_python": "gelu",
}
"""Activations that transformers writes out operation by operation, and the name of the same function as one kernel of torch's.

GPT-2's, written out, keeps five results of the inner layer's width for the backward pass; the kernel keeps its input and its
result (decision 061).
"""


def make_activation(config: VanillaConfig) -> nn.Module:
    """Return the function that the config names; what torch has as one kernel, as that kernel."""
    return ACT2FN[FUSED.get(config.activation, config.activation)]


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W1 + b1) W2 + b2, at every position alike (Vaswani et al. 2017, eq. 2)."""

    def __init__(self, config: VanillaConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.d_model, config.d_ff)
        self.fc2 = nn.Linear(config.d_ff, config.d_model)
        self.activation = make_activation(config)
        self.dropout = Dropout(config.activation_dropout)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (B, T, D) through (B, T, F) to (B, T, D)."""
        return self.fc2(self.dropout(self.activation(self.fc1(hidden_states))))


class _Layer(GradientCheckpointingLayer):
    """What both kinds of layer share: the residual connection around a sub-layer, its norm and its dropout."""

    def __init__(self, config: VanillaConfig):
        super().__init__()
        self.pre_norm = config.norm_order == "pre"
        self.dropout = Dropout(config.dropout)

    def residual(
        self, hidden_states: torch.Tensor, norm: nn.Module, sublayer: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Compute LayerNorm(x + Dropout(Sublayer(x))) (sec. 3.1, 5.4), or x + Dropout(Sublayer(LayerNorm(x)))."""
        if self.pre_norm:
            return hidden_states + self.dropout(sublayer(norm(hidden_states)))
        return norm(hidden_states + self.dropout(sublayer(hidden_states)))


class EncoderLayer(_Layer):
    """Self-attention, then the feed-forward network (Vaswani et al. 2017, sec. 3.1)."""

    def __init__(self, config: VanillaConfig, layer_idx: int):
        super().__init__(config)
        self.self_attn = MultiHeadAttention(config, layer_idx)
        self.self_attn_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> torch.Tensor:
        """Map (B, T, D) to (B, T, D)."""
        hidden_states = self.residual(
            hidden_states,
            self.self_attn_norm,
            lambda x: self.self_attn(x, attention_mask=attention_mask, **kwargs)[0],
        )
        return self.residual(hidden_states, self.feed_forward_norm, self.feed_forward)


class DecoderLayer(_Layer):
    """Masked self-attention, attention over the encoder, feed-forward network (Vaswani et al. 2017, sec. 3.1).

    Without `cross_attention` it is the layer of GPT-2.
    """

    def __init__(self, config: VanillaConfig, layer_idx: int, cross_attention: bool = True):
        super().__init__(config)
        self.self_attn = MultiHeadAttention(config, layer_idx, is_causal=True)
        self.self_attn_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        if cross_attention:
            self.cross_attn = MultiHeadAttention(config, layer_idx)
            self.cross_attn_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    @takes_cache
    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Map (B, T, D), with the encoder's output (B, S, D), to (B, T, D).

        Both tensors are positional, so that reentrant gradient checkpointing sees them. `use_cache` is named here
        because transformers' checkpointing switches it off by that name.
        """
        if encoder_hidden_states is not None and not hasattr(self, "cross_attn"):
            raise ValueError("encoder_hidden_states must be None for a layer built with cross_attention=False")
        hidden_states = self.residual(
            hidden_states,
            self.self_attn_norm,
            lambda x: self.self_attn(x, None, attention_mask, cache, **kwargs)[0],
        )
        if encoder_hidden_states is not None:
            hidden_states = self.residual(
                hidden_states,
                self.cross_attn_norm,
                lambda x: self.cross_attn(x, encoder_hidden_states, encoder_attention_mask, cache, **kwargs)[0],
            )
        return self.residual(hidden_states, self.feed_forward_norm, self.feed_forward)
