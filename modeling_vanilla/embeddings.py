# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Embeddings: id -> vector, position -> vector (Vaswani et al. 2017, sec. 3.4 and 3.5).

Dimension letters: B batch, T length, D d_model, P max_position_embeddings.
"""

import torch
from torch import nn

from .configuration_vanilla import VanillaConfig
from .dropout import Dropout


class TokenEmbedding(nn.Embedding):
    """Look up token vectors and multiply them by sqrt(d_model) (Vaswani et al. 2017, sec. 3.4).

    The factor lives here, so that `get_input_embeddings()(ids)` gives exactly what the stack would have used. Its name
    is the one by which others find it: vLLM, which puts a table of its own in this place, and adapters of PEFT.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, embed_scale: float = 1.0):
        super().__init__(num_embeddings, embedding_dim)
        self.embed_scale = embed_scale

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Map ids (B, T) to vectors (B, T, D)."""
        vectors = super().forward(input_ids)
        return vectors if self.embed_scale == 1.0 else vectors * self.embed_scale


def look_up(table: nn.Module, input_ids: torch.Tensor, embed_scale: float) -> torch.Tensor:
    """Map ids (B, T) to vectors (B, T, D) with what stands in the place of a `TokenEmbedding`.

    With `ensure_weight_tying` PEFT 0.21 puts a linear map in the place of every tied matrix, that of the decoder's
    embedding too; stock translators fail there.
    """
    saved = getattr(table, "modules_to_save", None)
    if isinstance(table, nn.Linear) or (saved and any(isinstance(module, nn.Linear) for module in saved.values())):
        return nn.functional.embedding(input_ids, table.weight) * embed_scale
    return table(input_ids)


def sinusoid_table(num_positions: int, dim: int) -> torch.Tensor:
    """Return PE of shape (num_positions, dim) in fp32 (Vaswani et al. 2017, sec. 3.5).

    PE(pos, 2i) = sin(pos / 10000^(2i/dim)) and PE(pos, 2i+1) = cos(the same). Computed in fp64: in fp32 the angle of
    position 1,000 would already be off by 6e-5.
    """
    position = torch.arange(num_positions, dtype=torch.float64, device="cpu").unsqueeze(1)  # (P, 1)
    frequency = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64, device="cpu") / dim)  # (D/2,)
    angle = position * frequency  # (P, D/2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()  # (P, D), sine and cosine in turn


class SinusoidalPositions(nn.Module):
    """Position vectors of fixed sine waves (Vaswani et al. 2017, sec. 3.5)."""

    def __init__(self, num_positions: int, dim: int):
        super().__init__()
        self.num_positions = num_positions
        self.dim = dim
        self.register_buffer("table", torch.empty(num_positions, dim, dtype=torch.float32), persistent=False)
        if self.table.device.type != "meta":
            self.table.copy_(self.values())

    def values(self) -> torch.Tensor:
        """Return the exact table (P, D), to fill the buffer with: it is in no checkpoint."""
        return sinusoid_table(self.num_positions, self.dim)

    def _apply(self, fn, recurse: bool = True):
        # A cast to bf16 would move position 257 onto 256. The table follows to a device, never to another dtype.
        super()._apply(fn, recurse)
        if self.table.dtype != torch.float32:
            self.table = self.values().to(self.table.device)
        return self

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """Map positions (B or 1, T) to fp32 vectors (B or 1, T, D)."""
        return nn.functional.embedding(position_ids, self.table)


class LearnedPositions(nn.Embedding):
    """Position vectors that are trained (Table 3 (E); BERT, GPT-2, BART): (B or 1, T) -> (B or 1, T, D)."""


def default_position_ids(
    attention_mask: torch.Tensor | None, length: int, past_length: int | torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Return the positions of the last `length` tokens, counted over real tokens only.

    Args:
        attention_mask: (B, past_length + length), nonzero = real; or None or a prepared 4-D mask: nothing is padded.
        length: Number of new tokens T.
        past_length: Number of tokens in the cache.
        device: Where the ids are needed.

    Returns:
        (B, T) with a 2-D mask, (1, T) without. Padding on the left does not count, so that it changes nothing;
        a padded place gets position 0.
    """
    if attention_mask is None or attention_mask.dim() != 2:
        return (torch.arange(length, device=device) + past_length).unsqueeze(0)
    counted = attention_mask.to(device).ne(0).long().cumsum(-1) - 1  # (B, past + T)
    return counted.clamp(min=0)[:, -length:]


class Embeddings(nn.Module):
    """Positions, segment types, norm and dropout on top of token vectors (Vaswani et al. 2017, sec. 3.4, 3.5, 5.4).

    The token matrix stays outside, as `embed_tokens` of the stack, where Hugging Face tools look for it.
    """

    def __init__(self, config: VanillaConfig):
        super().__init__()
        size = (config.max_position_embeddings, config.d_model)
        self.positions = SinusoidalPositions(*size) if config.positions == "sinusoidal" else LearnedPositions(*size)
        self.types = nn.Embedding(config.type_vocab_size, config.d_model) if config.type_vocab_size else None
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps) if config.embedding_norm else None
        self.dropout = Dropout(config.dropout)

    def forward(
        self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Add positions (B or 1, T) and types (B, T) to token vectors (B, T, D).

        `token_type_ids` default to 0 and are ignored by a model without types, since tokenizers send them anyway.
        """
        hidden_states = inputs_embeds
        if self.types is not None:
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(position_ids)
            hidden_states = hidden_states + self.types(token_type_ids)
        hidden_states = (hidden_states + self.positions(position_ids)).to(inputs_embeds.dtype)
        if self.norm is not None:
            hidden_states = self.norm(hidden_states)
        return self.dropout(hidden_states)
