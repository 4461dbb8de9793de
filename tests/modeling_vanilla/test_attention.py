# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Attention against equation 1 and section 3.2.2, written out as loops over Python floats.

B batch, T query length, S key length, H heads, K head_dim, D d_model: all different, so that no swap can pass.
"""

import math

import pytest
import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from modeling_vanilla import VanillaConfig
from modeling_vanilla.attention import MultiHeadAttention, scaled_dot_product_attention

B, T, S, H, K, D = 2, 3, 5, 4, 6, 14
INF = math.inf
KERNELS = {"eager": scaled_dot_product_attention, "sdpa": ALL_ATTENTION_FUNCTIONS["sdpa"]}
# Rounding of one product and one sum in each type.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 4e-2, torch.float16: 5e-3}
evaluating = nn.Module().eval()


def equation_1(query: list, key: list, value: list, added: list) -> tuple[list, list]:
    """Attend with (T, K), (S, K), (S, K) numbers; `added` (T, S) is added to the scores. No weight: context 0."""
    contexts, all_weights = [], []
    for q, row in zip(query, added, strict=True):
        scores = [
            sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(len(q)) + m
            for k, m in zip(key, row, strict=True)
        ]
        top = max(scores)
        powers = [math.exp(s - top) if top > -INF else 0.0 for s in scores]
        weights = [p / sum(powers) if top > -INF else 0.0 for p in powers]
        all_weights.append(weights)
        contexts.append([sum(w * v[i] for w, v in zip(weights, value, strict=True)) for i in range(len(value[0]))])
    return contexts, all_weights


def expected(q, k, v, added) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply `equation_1` to every batch row and head: (B, T, H, K) and (B, H, T, S), float64."""
    q, k, v, added = (x.double().tolist() for x in (q, k, v, added.expand(B, H, T, S)))
    pairs = [[equation_1(q[b][h], k[b][h], v[b][h], added[b][h]) for h in range(H)] for b in range(B)]
    contexts, weights = ([[p[i] for p in row] for row in pairs] for i in (0, 1))
    return torch.tensor(contexts, dtype=torch.float64).transpose(1, 2), torch.tensor(weights, dtype=torch.float64)


def tensors(dtype=torch.float32, seed=0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, H, n, K, generator=generator).to(dtype) for n in (T, S, S)]


def allowed(empty_rows: bool) -> torch.Tensor:
    """A mask (B, 1, T, S) with no symmetry; with `empty_rows` two queries may attend nothing."""
    mask = torch.tensor(
        [
            [[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [1, 1, 1, 1, 1]],
            [[0, 0, 0, 0, 1], [1, 0, 1, 0, 1], [0, 1, 0, 1, 1]],
        ]
    ).bool()[:, None]
    if empty_rows:
        mask[0, 0, 1], mask[1, 0, 2] = False, False
    return mask


def as_added(mask: torch.Tensor, low: float = -INF, dtype=torch.float64) -> torch.Tensor:
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, low)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_equation_1_without_a_mask(kernel, dtype):
    q, k, v = tensors(dtype)
    context, weights = KERNELS[kernel](evaluating, q, k, v, None, scaling=K**-0.5, is_causal=False)
    want, want_weights = expected(q, k, v, torch.zeros(1, 1, T, S))
    assert context.shape == (B, T, H, K) and context.dtype == dtype
    torch.testing.assert_close(context.double(), want, atol=TOLERANCE[dtype], rtol=0)
    if kernel == "eager":
        assert weights.shape == (B, H, T, S) and weights.dtype == dtype
        torch.testing.assert_close(weights.double(), want_weights, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", ["boolean", "-inf"])
@pytest.mark.parametrize("empty_rows", [False, True], ids=["some", "empty_rows"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_masks_and_their_gradients(kernel, kind, empty_rows, dtype):
    q, k, v = (x.requires_grad_() for x in tensors(dtype))
    mask = allowed(empty_rows)
    given = mask if kind == "boolean" else as_added(mask, dtype=dtype)
    context, _ = KERNELS[kernel](evaluating, q, k, v, given, scaling=K**-0.5, is_causal=False)
    torch.testing.assert_close(
        context.detach().double(), expected(q, k, v, as_added(mask))[0], atol=TOLERANCE[dtype], rtol=0
    )
    context.float().square().sum().backward()
    for x in (q, k, v):
        assert x.grad.isfinite().all() and x.grad.any()
    if empty_rows:
        assert not context[0, 1].any() and not context[1, 2].any()
        assert not q.grad[0, :, 1].any() and not q.grad[1, :, 2].any()
    # Key 3 of row 0 is seen by query 2 alone, key 0 of row 1 by query 1 alone: other queries give it no gradient.
    assert v.grad[0, :, 3].any() and v.grad[1, :, 0].any()
    hidden = torch.autograd.grad(
        KERNELS[kernel](evaluating, q, k, v, given, scaling=K**-0.5, is_causal=False)[0][0, :2].float().sum(), (k, v)
    )
    assert not any(g[0, :, 3].any() for g in hidden)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_additive_masks_of_the_lowest_number_hide_whole_rows(dtype):
    """masking_utils writes finfo.min for eager attention: such a row must act like one of -inf."""
    q, k, v = tensors(dtype)
    mask = allowed(empty_rows=True)
    given = as_added(mask, torch.finfo(dtype).min, dtype)
    context, _ = scaled_dot_product_attention(evaluating, q, k, v, given, K**-0.5)
    torch.testing.assert_close(context.double(), expected(q, k, v, as_added(mask))[0], atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_mask_of_numbers_is_added_to_the_scores(kernel):
    q, k, v = tensors()
    bias = torch.randn(B, H, T, S, generator=torch.Generator().manual_seed(7))
    bias[0, 1, 2, 3] = -INF
    context, _ = KERNELS[kernel](evaluating, q, k, v, bias, scaling=K**-0.5, is_causal=False)
    torch.testing.assert_close(context.double(), expected(q, k, v, bias)[0], atol=2e-6, rtol=0)


def test_the_textbook_score_is_seven_tenths():
    """0.1 * 0.5 + 0.2 * 0.6 + 0.3 * 0.7 + 0.4 * 0.8 = 0.70, seen as the log-odds against a key of zeros."""
    query = torch.tensor([[[[0.1, 0.2, 0.3, 0.4]]]])
    key = torch.tensor([[[[0.5, 0.6, 0.7, 0.8], [0.0, 0.0, 0.0, 0.0]]]])
    for scaling, score in ((1.0, 0.70), (4**-0.5, 0.35)):
        _, weights = scaled_dot_product_attention(evaluating, query, key, key, None, scaling)
        assert (weights[..., 0] / weights[..., 1]).log().item() == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_scores_that_overflow_half_precision_before_scaling(kernel):
    """q . k = 4 * 180 * 150 = 108,000 is beyond fp16's 65,504; divided by sqrt(4) it is not."""
    query = torch.full((1, 1, 1, 4), 180.0, dtype=torch.float16)
    key = torch.tensor([[[[150.0] * 4, [149.0] * 4, [-150.0] * 4]]], dtype=torch.float16)
    value = torch.tensor([[[[1.0] * 4, [2.0] * 4, [3.0] * 4]]], dtype=torch.float16)
    context, _ = KERNELS[kernel](evaluating, query, key, value, None, scaling=0.5, is_causal=False)
    assert context.flatten().tolist() == [1.0] * 4


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", ["boolean", "-inf"])
def test_no_score_is_large_enough_to_lift_a_mask(kernel, kind):
    """In fp16 the lowest number is only -65,504; scores of -60,000 and 60,000 differ by more than that."""
    query = torch.full((1, 1, 1, 4), 200.0, dtype=torch.float16)
    key = torch.tensor([[[[-150.0] * 4, [150.0] * 4]]], dtype=torch.float16)
    value = torch.tensor([[[[1.0] * 4, [5.0] * 4]]], dtype=torch.float16)
    mask = torch.tensor([[[[True, False]]]])
    given = mask if kind == "boolean" else as_added(mask, dtype=torch.float16)
    context, _ = KERNELS[kernel](evaluating, query, key, value, given, scaling=0.5, is_causal=False)
    assert context.flatten().tolist() == [1.0] * 4


def attention(kernel="eager", **numbers) -> MultiHeadAttention:
    """Build an attention whose head_dim is not d_model / num_heads, with no weight and no bias near 0 or 1."""
    config = VanillaConfig.tiny(d_model=D, num_heads=H, head_dim=K, attn_implementation=kernel, **numbers)
    torch.manual_seed(3)
    module = MultiHeadAttention(config, layer_idx=0).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module


def linear(x: list, weight: list, bias: list) -> list:
    return [
        [sum(a * w for a, w in zip(row, ws, strict=True)) + b for ws, b in zip(weight, bias, strict=True)] for row in x
    ]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
def test_heads_are_projected_attended_joined_and_mixed(kernel, cross):
    """head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V); head i owns rows i*K to (i+1)*K of each projection."""
    module = attention(kernel)
    x, memory = torch.randn(B, T, D), torch.randn(B, S, D)
    source = memory if cross else x
    mask = allowed(empty_rows=False)[..., : source.shape[1]] | torch.eye(T, source.shape[1], dtype=torch.bool)
    output, weights = module(x, memory if cross else None, attention_mask=mask)
    numbers = {n: p.double().tolist() for n, p in module.named_parameters()}
    for b in range(B):
        heads = []
        for i in range(H):
            own = slice(i * K, (i + 1) * K)
            q, k, v = (
                linear(y[b].double().tolist(), numbers[f"{n}.weight"][own], numbers[f"{n}.bias"][own])
                for n, y in (("q_proj", x), ("k_proj", source), ("v_proj", source))
            )
            head, head_weights = equation_1(q, k, v, as_added(mask)[b, 0].tolist())
            heads.append(head)
            if kernel == "eager":
                torch.testing.assert_close(weights[b, i], torch.tensor(head_weights), atol=1e-5, rtol=0)
        joined = [[number for head in heads for number in head[t]] for t in range(T)]
        want = torch.tensor(linear(joined, numbers["out_proj.weight"], numbers["out_proj.bias"]))
        torch.testing.assert_close(output[b], want, atol=1e-5, rtol=0)


def test_attention_weights_are_dropped_and_rescaled_in_training_only():
    module = attention(attention_dropout=0.25)
    x = torch.randn(B, 40, D)
    kept = module(x)[1]
    torch.testing.assert_close(kept.sum(-1), torch.ones(B, H, 40))
    torch.manual_seed(1)
    dropped = module.train()(x)[1]
    zero = dropped == 0
    torch.testing.assert_close(dropped[~zero], kept[~zero] / 0.75)
    # 12,800 weights: 0.25 +- 4 standard deviations of 0.0038.
    assert abs(zero.float().mean().item() - 0.25) < 0.0155


def test_the_order_of_the_keys_does_not_matter():
    module = attention()
    x, memory, order = torch.randn(B, T, D), torch.randn(B, S, D), torch.tensor([3, 0, 4, 2, 1])
    mask = allowed(empty_rows=False)
    straight = module(x, memory, attention_mask=mask)
    shuffled = module(x, memory[:, order], attention_mask=mask[..., order])
    torch.testing.assert_close(shuffled[0], straight[0])
    torch.testing.assert_close(shuffled[1], straight[1][..., order])
