"""Sparse Transformer: each position reads about 2 √n others, and two layers join any two (Child et al. 2019).

Dimension letters: B batch, T length n, D d_model, H heads, K head_dim, P keys of a query.
"""

import torch

from lab.memory import RelativeAttention
from lab.paths import fixed, strided
from modeling_vanilla import VanillaConfig

PATTERNS = {"strided": strided, "fixed": fixed}


class SparseAttention(RelativeAttention):
    """Masked self-attention that reads a pattern (Child et al. 2019, sec. 4.3).

    The pattern is a mask here, which trains fast on what there is; `gathered` computes the pattern's pairs alone.

    Deviates: positions are relative, so that this differs from the full attention beside it in the pattern alone; Child et
    al. add learned vectors of row and column to the input.
    """

    def __init__(self, config: VanillaConfig, layer_idx: int, pattern: str = "strided"):
        super().__init__(config, layer_idx)
        self.pattern = PATTERNS[pattern]

    def forward(self, hidden_states: torch.Tensor, *rest, **kwargs):
        """Attend from (B, T, D) to itself."""
        return super().forward(hidden_states, attention_mask=self.pattern(hidden_states.shape[1]))

    def gathered(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the same output from the pattern's pairs alone: fetch the keys of each query, then multiply."""
        query, key, value, relative = self.project(hidden_states, hidden_states)
        length = hidden_states.shape[1]
        places, real = keys_of(self.pattern(length))  # (T, P)
        distances = (torch.arange(length)[:, None] - places).clamp(min=0)
        by_key = (query + self.content_bias)[..., None, :] @ key[:, :, places].transpose(-1, -2)  # (B, H, T, 1, P)
        by_distance = (query + self.position_bias)[..., None, :] @ relative[:, :, distances].transpose(-1, -2)
        scores = ((by_key + by_distance) * self.scaling).masked_fill(~real[:, None], torch.finfo(query.dtype).min)
        context = (scores.softmax(-1) @ value[:, :, places])[..., 0, :]  # (B, H, T, K)
        return self.out_proj(context.transpose(1, 2).flatten(2))


def keys_of(pattern: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the keys of each query of a pattern (T, T): places (T, P) and which are real, P the most of any query."""
    most = int(pattern.sum(1).max())
    real, places = pattern.int().topk(most, dim=1)
    return places, real.bool()
