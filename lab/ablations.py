"""What a claim takes away: subclasses of this package's own classes, each of some ten lines that change one thing.

`swapped(model, Part, Changed)` puts them into a model. Read one beside its parent and you have read the experiment.
Dimension letters: B batch, T query length, S key length, D d_model, H heads, K head_dim.
"""

from typing import Any, TypeVar

import torch
from torch import nn

from modeling_vanilla.attention import MultiHeadAttention
from modeling_vanilla.base import VanillaPreTrainedModel
from modeling_vanilla.embeddings import Embeddings
from modeling_vanilla.layers import EncoderLayer, FeedForward

Model = TypeVar("Model", bound=nn.Module)


def swapped(model: Model, part: type[nn.Module], changed: type[nn.Module], seed: int = 0) -> Model:
    """Put a `changed` in the place of each `part` of a model, with the weights of the old one where it has them too.

    What is new is initialised as the model initialises its own: one thing changes, not the draw.
    """
    torch.manual_seed(seed)
    initialise: Any = model._init_weights
    for name, old in [(name, old) for name, old in model.named_modules() if type(old) is part]:
        new = changed(model.config, *_arguments(old))
        new.apply(initialise)
        weights = new.state_dict()
        new.load_state_dict(weights | {n: w for n, w in old.state_dict().items() if n in weights})
        model.set_submodule(name, new.train(old.training))
    return model


def _arguments(part: Any) -> tuple:
    """Return what a part was built with, after the config."""
    if isinstance(part, MultiHeadAttention):
        return part.layer_idx, part.is_causal
    return (part.self_attn.layer_idx,) if isinstance(part, EncoderLayer) else ()


class SharedQueryKey(MultiHeadAttention):
    """W_q = W_k: what a token asks for is what it offers. The score of i for j is that of j for i."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.k_proj = self.q_proj


class SharedKeyValue(MultiHeadAttention):
    """W_k = W_v: a token hands over what it is found by."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.v_proj = self.k_proj


class NoProjections(MultiHeadAttention):
    """Q = K = V = X: each head compares and passes on its own d_k of the d_model numbers as they are."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.q_proj = self.k_proj = self.v_proj = nn.Identity()


class Unscaled(MultiHeadAttention):
    """softmax(Q K^T) V: equation 1 without the division by sqrt(d_k)."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.scaling = 1.0


class Additive(MultiHeadAttention):
    """The score is v . tanh(q + k) (Bahdanau et al. 2015), where q . k / sqrt(d_k) was; no mask, no cache."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.combine = nn.Linear(self.head_dim, 1, bias=False)

    def forward(self, hidden_states, *_, **kwargs):
        """Map (B, T, D) to (B, T, D), with the weights (B, H, T, T)."""
        query = self._split_heads(self.q_proj(hidden_states), self.head_dim)  # (B, H, T, K)
        key, value = self._keys_and_values(hidden_states, None, False, {})
        pairs = torch.tanh(query.unsqueeze(3) + key.unsqueeze(2))  # (B, H, T, T, K)
        weights = self.combine(pairs).squeeze(-1).softmax(-1)  # (B, H, T, T)
        return self.out_proj((weights @ value).transpose(1, 2).flatten(2)), weights


class Unmasked(MultiHeadAttention):
    """Self-attention that sees the tokens to come, whatever mask the stack hands down."""

    def __init__(self, config, layer_idx, is_causal=False):
        super().__init__(config, layer_idx, is_causal=False)

    def forward(self, hidden_states, encoder_hidden_states=None, attention_mask=None, cache=None, **kwargs):
        """Attend as the parent does without a mask; see there."""
        return super().forward(hidden_states, encoder_hidden_states, None, cache, **kwargs)


class Causal(MultiHeadAttention):
    """Self-attention of an encoder that sees nothing to its right."""

    def __init__(self, config, layer_idx, is_causal=True):
        super().__init__(config, layer_idx, is_causal=True)


class NoFeedForward(FeedForward):
    """FFN(x) = 0: after attention, the residual connection and its norm are all that is left."""

    def __init__(self, config):
        nn.Module.__init__(self)

    def forward(self, hidden_states):
        """Map (B, T, D) to zeros (B, T, D)."""
        return torch.zeros_like(hidden_states)


class LinearFeedForward(FeedForward):
    """FFN(x) = x W1 W2 + b: equation 2 without its max(0, ...), which makes two matrices no more than one."""

    def __init__(self, config):
        super().__init__(config)
        self.activation = nn.Identity()


class NoResidual(EncoderLayer):
    """LayerNorm(Sublayer(x)): what a sub-layer does not pass on is gone."""

    def residual(self, hidden_states, norm, sublayer):
        """Map (B, T, D) to (B, T, D)."""
        return norm(self.dropout(sublayer(hidden_states)))


class NoNorm(EncoderLayer):
    """x + Sublayer(x): the states grow as they will."""

    def residual(self, hidden_states, norm, sublayer):
        """Map (B, T, D) to (B, T, D)."""
        return hidden_states + self.dropout(sublayer(hidden_states))


class Bare(EncoderLayer):
    """Sublayer(x): neither residual connection nor norm."""

    def residual(self, hidden_states, norm, sublayer):
        """Map (B, T, D) to (B, T, D)."""
        return self.dropout(sublayer(hidden_states))


Model = TypeVar("Model", bound=VanillaPreTrainedModel)


class WithoutPositions(Embeddings):
    """Token vectors alone: the order of the sequence is not told (against Vaswani et al. 2017, sec. 3.5)."""

    def forward(
        self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the token vectors (B, T, D) as they are."""
        return self.dropout(inputs_embeds)


def without_positions(model: Model) -> Model:
    """Take the positions away from every stack of a model, in place; return the model."""
    for stack in [module for module in model.modules() if hasattr(module, "embeddings")]:
        stack.embeddings = WithoutPositions(model.config)
    return model
