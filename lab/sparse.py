"""Sparse Transformer: each position reads about 2 √n others, and two layers join any two (Child et al. 2019).

Dimension letters: B batch, T length n, D d_model, H heads, K head_dim, P keys of a query.
"""

import torch

from lab.paths import fixed, strided
from modeling_vanilla import VanillaConfig
from modeling_vanilla.attention import MultiHeadAttention

PATTERNS = {"strided": strided, "fixed": fixed}


class SparseAttention(MultiHeadAttention):
    """Masked self-attention that reads a pattern (Child et al. 2019, sec. 4.3).

    As a mask of this package's attention, which trains fast here; `gathered` computes the pattern's pairs alone.
    """

    def __init__(self, config: VanillaConfig, layer_idx: int, pattern: str = "strided"):
        super().__init__(config, layer_idx, is_causal=True)
        self.pattern = PATTERNS[pattern]

    def forward(self, hidden_states: torch.Tensor, *rest, **kwargs):
        """Attend from (B, T, D) to itself."""
        return super().forward(hidden_states, attention_mask=self.pattern(hidden_states.shape[1])[None, None])

    def gathered(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the same output, from the pattern's pairs alone: fetch the keys of each query, then multiply."""
        query, key, value = (
            self._split_heads(project(hidden_states), self.head_dim)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, H, T, K)
        places, real = keys_of(self.pattern(hidden_states.shape[1]))  # (T, P)
        scores = (query[..., None, :] * self.scaling) @ key[:, :, places].transpose(-1, -2)  # (B, H, T, 1, P)
        weights = scores.masked_fill(~real[:, None], torch.finfo(scores.dtype).min).softmax(-1)
        context = (weights @ value[:, :, places])[..., 0, :]  # (B, H, T, K)
        return self.out_proj(context.transpose(1, 2).flatten(2))


def keys_of(pattern: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the keys of each query of a pattern (T, T): places (T, P) and which are real, P the most of any query."""
    most = int(pattern.sum(1).max())
    real, places = pattern.int().topk(most, dim=1)
    return places, real.bool()


def operations(config: VanillaConfig, length: int, keys: int) -> int:
    """Return the operations of one sequence in an attention whose queries read so many keys each, all n in a full one."""
    inner = config.num_heads * config.head_dim
    return 8 * length * config.d_model * inner + 4 * length * keys * inner
