"""Each ablation equals its parent where nothing is taken away, and differs in the one thing that it names.

Dimension letters: B batch, T length, D d_model, H heads, K head_dim.
"""

import pytest
import torch

from lab.ablations import (
    Additive,
    Bare,
    Causal,
    LinearFeedForward,
    NoFeedForward,
    NoNorm,
    NoProjections,
    NoResidual,
    SharedKeyValue,
    SharedQueryKey,
    Unmasked,
    Unscaled,
    swapped,
)
from lab.tagging import attention_of, tagger
from modeling_vanilla import VanillaConfig
from modeling_vanilla.attention import MultiHeadAttention
from modeling_vanilla.layers import EncoderLayer, FeedForward

B, T, D, H, K = 2, 7, 20, 4, 5


def config(**fields) -> VanillaConfig:
    sizes = dict(d_model=D, num_heads=H, d_ff=23, num_layers=1, vocab_size=11, dropout=0.0)
    return VanillaConfig(**({"variant": "encoder", "attn_implementation": "eager"} | sizes | fields))


def states() -> torch.Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(5))


def pair(changed: type, part: type, *arguments, **fields):
    """Return a part and its ablation with the same weights where both have them; `fields` are of the ablation alone."""
    torch.manual_seed(3)
    whole, less = part(config(), *arguments).eval(), changed(config(**fields), *arguments).eval()
    weights = less.state_dict()
    less.load_state_dict(weights | {n: w for n, w in whole.state_dict().items() if n in weights})
    return whole, less


@pytest.mark.parametrize(
    ("changed", "same"), [(SharedQueryKey, ("q_proj", "k_proj")), (SharedKeyValue, ("k_proj", "v_proj"))]
)
def test_a_shared_matrix_equals_two_that_are_alike(changed, same):
    whole, shared = pair(changed, MultiHeadAttention, 0)
    with torch.no_grad():
        for name in same:
            for a, b in zip(getattr(whole, name).parameters(), getattr(shared, same[0]).parameters()):
                a.copy_(b)
    torch.testing.assert_close(shared(states()), whole(states()))
    lost = D * D + D
    assert sum(p.numel() for p in whole.parameters()) - sum(p.numel() for p in shared.parameters()) == lost


def test_no_projections_equals_projections_that_are_the_identity():
    whole, bare = pair(NoProjections, MultiHeadAttention, 0)
    with torch.no_grad():
        for projection in (whole.q_proj, whole.k_proj, whole.v_proj):
            projection.weight.copy_(torch.eye(D))
            projection.bias.zero_()
    torch.testing.assert_close(bare(states()), whole(states()))


def test_unscaled_equals_its_parent_with_queries_that_are_larger_by_the_root():
    whole, unscaled = pair(Unscaled, MultiHeadAttention, 0)
    with torch.no_grad():
        for parameter in whole.q_proj.parameters():
            parameter.mul_(K**0.5)
    torch.testing.assert_close(unscaled(states()), whole(states()))


def test_additive_scores_are_those_of_the_equation():
    """v . tanh(q + k), pair by pair (Bahdanau et al. 2015, sec. 3.1)."""
    additive = Additive(config(), 0)
    _, weights = additive(states())
    q, k = (p(states()).unflatten(-1, (H, K)) for p in (additive.q_proj, additive.k_proj))
    scores = torch.empty(B, H, T, T)
    for i in range(T):
        for j in range(T):
            scores[:, :, i, j] = torch.tanh(q[:, i] + k[:, j]) @ additive.combine.weight[0]
    torch.testing.assert_close(weights, scores.softmax(-1))


@pytest.mark.parametrize(("changed", "is_causal"), [(Unmasked, False), (Causal, True)])
def test_who_sees_whom_is_changed_and_nothing_else(changed, is_causal):
    plain = MultiHeadAttention(config(), 0, is_causal)
    other = changed(config(), 0, not is_causal)
    other.load_state_dict(plain.state_dict())
    torch.testing.assert_close(other(states()), plain(states()))


def test_unmasked_sees_the_future_whatever_the_stack_hands_down():
    unmasked = Unmasked(config(), 0, True)
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    torch.testing.assert_close(unmasked(states(), None, mask), unmasked(states()))


def test_a_linear_network_equals_its_parent_where_nothing_is_cut():
    whole, linear = pair(LinearFeedForward, FeedForward)
    with torch.no_grad():
        whole.fc1.bias.fill_(50.0)
        linear.fc1.bias.fill_(50.0)
    torch.testing.assert_close(linear(states()), whole(states()))


def test_no_network_is_zero_and_has_no_weights():
    network = NoFeedForward(config())
    assert not list(network.parameters())
    assert torch.equal(network(states()), torch.zeros(B, T, D))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (NoResidual, lambda x, norm, f: norm(f(x))),
        (NoNorm, lambda x, norm, f: x + f(x)),
        (Bare, lambda x, norm, f: f(x)),
    ],
)
def test_a_layer_without_residual_or_norm(changed, expected):
    layer = changed(config(), 0).eval()
    x = states()
    x = expected(x, layer.self_attn_norm, lambda y: layer.self_attn(y)[0])
    torch.testing.assert_close(layer(states()), expected(x, layer.feed_forward_norm, layer.feed_forward))


def test_swapping_a_part_for_itself_changes_nothing_and_another_takes_its_place():
    digits = torch.randint(10, (B, T))
    model = tagger(3)
    before = model(digits).logits
    for part in (MultiHeadAttention, FeedForward, EncoderLayer):
        swapped(model, part, part, seed=8)
    torch.testing.assert_close(model(digits).logits, before)
    assert type(attention_of(swapped(model, MultiHeadAttention, Unscaled))) is Unscaled
    assert not torch.allclose(model(digits).logits, before)
