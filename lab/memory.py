"""Transformer-XL: segments that remember the one before, with relative positions (Dai et al. 2019).

Dimension letters: B batch, T segment, M memory, S = M + T keys, D d_model, H heads, K head_dim.
"""

import torch
from torch import nn

from modeling_vanilla import VanillaConfig
from modeling_vanilla.attention import MultiHeadAttention
from modeling_vanilla.embeddings import sinusoid_table


class RelativeAttention(MultiHeadAttention):
    """Masked self-attention over memory and segment: score (q_i + u) k_j + (q_i + v) W_r R_{i-j} (Dai et al. 2019, sec. 3.3).

    R is the paper's sinusoid of the distance i - j, so that positions of the memory need no number of their own.
    """

    def __init__(self, config: VanillaConfig, layer_idx: int):
        super().__init__(config, layer_idx, is_causal=True)
        self.r_proj = nn.Linear(config.d_model, config.num_heads * config.head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(config.num_heads, 1, config.head_dim))  # u
        self.position_bias = nn.Parameter(torch.zeros(config.num_heads, 1, config.head_dim))  # v

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: None = None,
        attention_mask: torch.Tensor | None = None,
        cache: None = None,
        memory: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend from (B, T, D) to memory (B, M, D) and itself.

        Args:
            attention_mask: (T, S) booleans, True = may be attended, of a pattern within the causal one.

        Returns:
            The output (B, T, D) and the weights (B, H, T, S).
        """
        read = hidden_states if memory is None else torch.cat([memory, hidden_states], 1)  # (B, S, D)
        query, key, value, relative = self.project(hidden_states, read)
        length, total = query.shape[2], key.shape[2]
        places = torch.arange(total - length, total)[:, None] - torch.arange(total)  # (T, S), i - j
        seen = places >= 0 if attention_mask is None else attention_mask
        by_distance = (query + self.position_bias) @ relative.transpose(2, 3)  # (B, H, T, S), by distance
        by_key = by_distance.gather(3, places.clamp(min=0).expand_as(by_distance))  # (B, H, T, S), by key
        scores = ((query + self.content_bias) @ key.transpose(2, 3) + by_key) * self.scaling
        weights = scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1)
        context = (weights @ value).transpose(1, 2).flatten(2)  # (B, T, H*K)
        return self.out_proj(context), weights

    def project(
        self, hidden_states: torch.Tensor, read: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries (B, H, T, K), keys and values (B, H, S, K), and keys of each distance (1, H, S, K)."""
        query = self._split_heads(self.q_proj(hidden_states), self.head_dim)
        key = self._split_heads(self.k_proj(read), self.head_dim)
        value = self._split_heads(self.v_proj(read), self.head_dim)
        distances = sinusoid_table(read.shape[1], self.config.d_model).to(key)  # (S, D), row of each distance
        return query, key, value, self._split_heads(self.r_proj(distances)[None], self.head_dim)


def operations(config: VanillaConfig, length: int, memory: int, keys: int | None = None) -> int:
    """Return the operations of one sequence's segment in this attention, 2 for a multiplication and addition.

    Args:
        length: T.
        memory: M.
        keys: Those that each query reads, by default all M + T.
    """
    d, inner, total = config.d_model, config.num_heads * config.head_dim, length + memory
    projections = 2 * d * inner * (2 * length + 3 * total)  # Q and W^O; K, V and W_r
    return projections + 3 * 2 * length * (total if keys is None else keys) * inner  # content, position, values
