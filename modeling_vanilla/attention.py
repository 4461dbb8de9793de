# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Attention (Vaswani et al. 2017, sec. 3.2).

Dimension letters: B batch, T query length, S key length, D d_model, H heads, K head_dim (of values: v_head_dim).
"""

import torch
from torch import nn
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .cache_name import takes_cache, update
from .configuration_vanilla import VanillaConfig
from .dropout import drop
from .input_checks import can_read
from .masks import as_read, own_mask
from .windows import Window, windowed_attention


def scaled_dot_product_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    is_causal: bool = False,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute softmax(Q K^T / sqrt(d_k)) V (Vaswani et al. 2017, eq. 1).

    This is the "eager" implementation; it has the signature of every kernel in ALL_ATTENTION_FUNCTIONS.

    Args:
        module: The calling attention; only `module.training` is used.
        query: (B, H, T, K).
        key: (B, H, S, K).
        value: (B, H, S, K).
        attention_mask: Broadcastable to (B, H, T, S): True = may be attended, or numbers that are added to the scores.
        scaling: 1 / sqrt(d_k).
        dropout: Probability that an attention weight is dropped.
        is_causal: Without a mask, query i of several attends to no key after key i.

    Returns:
        The context (B, T, H, K) and the weights (B, H, T, S). A query that may attend nothing gets context 0, as in
        the fused kernels.
    """
    # Q is scaled before the product: in fp16 the unscaled scores overflow.
    scores = torch.matmul(query * scaling, key.transpose(2, 3))  # (B, H, T, S)
    if query.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    allowed = None
    if attention_mask is None and is_causal and query.shape[2] > 1:  # a single query comes last, and sees all
        attention_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attention_mask is not None:
        additive = attention_mask.dtype != torch.bool
        allowed = (
            attention_mask > torch.finfo(attention_mask.dtype).min if additive else attention_mask
        )  # (B, 1, T, S)
        bias = attention_mask.to(scores.dtype) if additive else torch.zeros_like(attention_mask, dtype=scores.dtype)
        # The lowest number, not -inf: the softmax over a row of -inf is NaN.
        scores = scores + bias.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    weights = nn.functional.softmax(scores, dim=-1).to(query.dtype)
    weights = drop(weights, dropout, module.training)
    context = torch.matmul(weights, value)  # (B, H, T, K)
    if allowed is not None:
        rows = allowed.any(-1, keepdim=True)  # (B, 1, T, 1)
        if not (can_read(rows) and rows.all()):  # nearly always all: then one pass over the context is saved
            context = context * rows
    return context.transpose(1, 2).contiguous(), weights  # (B, T, H, K)


class MultiHeadAttention(nn.Module):
    """Concat(head_1 ... head_h) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V) (Vaswani et al. 2017, sec. 3.2.2).

    Self-attention when it is called without `encoder_hidden_states`, encoder-decoder attention with them (sec. 3.2.3).

    Deviates: the projections have biases, as in BERT, GPT-2, BART, Marian and PyTorch; the paper writes none.

    Args:
        config: The model's numbers.
        layer_idx: Number of the layer, which is its place in the cache.
        is_causal: Position i sees no position after i (sec. 3.2.3), unless a call brings a mask that says otherwise, or
            `is_causal=False`.
    """

    def __init__(self, config: VanillaConfig, layer_idx: int, is_causal: bool = False):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = is_causal
        self.head_dim = config.head_dim
        self.v_head_dim = config.v_head_dim
        self.scaling = config.head_dim**-0.5
        self.dropout = config.attention_dropout
        self.q_proj = nn.Linear(config.d_model, config.num_heads * config.head_dim)
        self.k_proj = nn.Linear(config.d_model, config.num_heads * config.head_dim)
        self.v_proj = nn.Linear(config.d_model, config.num_heads * config.v_head_dim)
        self.out_proj = nn.Linear(config.num_heads * config.v_head_dim, config.d_model)

    @staticmethod
    def _split_heads(states: torch.Tensor, head_dim: int) -> torch.Tensor:
        return states.unflatten(-1, (-1, head_dim)).transpose(1, 2)  # (B, T, H*K) -> (B, H, T, K)

    def _keys_and_values(
        self, hidden_states: torch.Tensor, cache: Cache | None, is_cross: bool, kernel_inputs: dict
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Project (B, S, D) to keys and values (B, H, S, K), through the cache where there is one."""
        both = cache if isinstance(cache, EncoderDecoderCache) else None
        if both is not None:
            cache = both.cross_attention_cache if is_cross else both.self_attention_cache
            # The encoder's output does not change between steps: its keys and values are computed once.
            if is_cross and both.is_updated.get(self.layer_idx):
                return cache.layers[self.layer_idx].keys, cache.layers[self.layer_idx].values
        key = self._split_heads(self.k_proj(hidden_states), self.head_dim)
        value = self._split_heads(self.v_proj(hidden_states), self.v_head_dim)
        if cache is not None:
            key, value = update(cache, key, value, self.layer_idx, kernel_inputs)
            if is_cross and both is not None:
                both.is_updated[self.layer_idx] = True
        return key, value

    @takes_cache
    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend from `hidden_states` to themselves and the cache, or to `encoder_hidden_states`.

        Args:
            hidden_states: (B, T, D), the queries.
            encoder_hidden_states: (B, S, D), keys and values of encoder-decoder attention.
            attention_mask: As `masking_utils` makes it for the chosen kernel, or as in `masks.as_read`. Without one,
                self-attention keeps to `is_causal` and to the window of the config.
            cache: The keys and values so far; it takes those of this call.

        Returns:
            The output (B, T, D) and the weights (B, H, T, S), None where the kernel keeps none.
        """
        is_cross = encoder_hidden_states is not None
        # transformers hands `config.is_causal` to all attentions, and only those that are causal may obey it.
        is_causal = kwargs.pop("is_causal", True) is not False and self.is_causal and not is_cross
        query = self._split_heads(self.q_proj(hidden_states), self.head_dim)  # (B, H, T, K)
        key, value = self._keys_and_values(
            encoder_hidden_states if is_cross else hidden_states, cache, is_cross, kwargs
        )  # (B, H, S, K)
        if attention_mask is None and not is_cross:
            attention_mask = own_mask(self.config, is_causal, cache, self.layer_idx, query, key)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, scaled_dot_product_attention)
        dropout = self.dropout if self.training else 0.0
        if isinstance(attention_mask, Window) and attend is sdpa_attention_forward:
            weights = None
            context = windowed_attention(self, query, key, value, attention_mask, self.scaling, dropout)
        else:
            if isinstance(attention_mask, Window):  # the kernel is watched, and has to get what it would read
                attention_mask = attention_mask.table(key.shape[2], key.device)
            mask = as_read(attention_mask, self.config, query, key)
            context, weights = attend(
                self, query, key, value, mask, dropout=dropout, scaling=self.scaling, is_causal=is_causal, **kwargs
            )
        context = context.reshape(*hidden_states.shape[:2], -1)  # (B, T, H, K), and vLLM's (B*T, H*K) -> (B, T, H*K)
        return self.out_proj(context), weights  # (B, T, D)
