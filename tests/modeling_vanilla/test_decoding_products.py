# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Products on copied weights are the products, and are made where they may be."""

import copy
import platform

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modeling_vanilla import VanillaConfig, VanillaForCausalLM, decoding_cache, decoding_products
from modeling_vanilla.decoding import search
from modeling_vanilla.decoding_products import first_step_with_copy, product

COPIES = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()
needs_copies = pytest.mark.skipif(not COPIES, reason="copies are for oneDNN on x86")


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = dict(vocab_size=97, d_model=24, d_ff=29, num_layers=2, num_heads=4)
    return VanillaForCausalLM(VanillaConfig(variant="decoder", **sizes)).eval()


def first(model, rows: int, steps: int = 100) -> int | None:
    with torch.no_grad():
        return first_step_with_copy(model.model.decoder, model.lm_head, rows, steps)


@needs_copies
@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 64])
def test_a_product_is_x_times_the_transposed_weight_plus_the_bias(rows, bias, monkeypatch):
    monkeypatch.setattr(decoding_products, "SIZE", 0)
    vectors, one = torch.randn(rows, 33), nn.Linear(33, 70, bias=bias)
    expected = vectors @ one.weight.T + (one.bias if bias else 0)
    for copied in (True, False):
        torch.testing.assert_close(product(one, copy=copied)(vectors), expected, atol=1e-5, rtol=1e-5)


@needs_copies
@torch.no_grad()
@pytest.mark.parametrize("copied", [True, False])
def test_several_products_lie_side_by_side(copied, monkeypatch):
    monkeypatch.setattr(decoding_products, "SIZE", 0)
    vectors, one, other = torch.randn(5, 33), nn.Linear(33, 70), nn.Linear(33, 5)
    both = product(one, other, copy=copied)(vectors)
    torch.testing.assert_close(both, torch.cat([one(vectors), other(vectors)], 1), atol=1e-5, rtol=1e-5)


@needs_copies
@torch.no_grad()
def test_the_copy_is_of_plain_large_weights_alone(monkeypatch):
    linear, vectors = nn.Linear(512, 256), torch.randn(5, 512)
    assert linear.weight.numel() == decoding_products.SIZE
    copied, before = product(linear, copy=True), linear(vectors)
    linear.weight.zero_()
    torch.testing.assert_close(copied(vectors), before, atol=1e-5, rtol=1e-5)
    small = nn.Linear(512, 255)
    read = product(small, copy=True)
    small.weight.zero_()
    torch.testing.assert_close(read(vectors), small.bias.expand(5, -1))
    linear.register_forward_hook(lambda module, inputs, output: output + 1)
    assert product(linear, copy=True) is linear
    adapted = nn.Sequential(nn.Linear(512, 256))
    assert product(adapted, copy=True) is adapted


@needs_copies
def test_when_a_copy_pays(model, monkeypatch):
    steps, late = decoding_products.STEPS, decoding_products.LATE
    assert first(model, 1) == first(model, 3) == late and first(model, 4) == 0
    assert first(model, 4, steps) == 0 and first(model, 4, steps - 1) is None
    assert first(model, 1, 2 * late) == late and first(model, 1, 2 * late - 1) is None


@needs_copies
def test_where_no_copy_is_made(model, monkeypatch):
    assert first(model, 4) == 0
    with torch.backends.mkldnn.flags(enabled=False):
        assert first(model, 4) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert first(model, 4) is None
    with FlopCounterMode(display=False):  # it would not know the products
        assert first(model, 4) is None
    assert first_step_with_copy(model.model.decoder, model.lm_head, 4, 100) is None  # with gradients
    size = 4 * sum(weight.numel() for weight in [*model.model.decoder.layers.parameters(), model.lm_head.weight])
    with monkeypatch.context() as patch:
        patch.setattr(decoding_products, "MOST", size - 1)
        assert first(model, 4) is None
        patch.setattr(decoding_products, "MOST", size)
        assert first(model, 4) == 0
    with monkeypatch.context() as patch:
        patch.setattr(decoding_products, "OPERATORS", ("_linear_pointwise", "of_another_version"))
        assert first(model, 4) is None
    assert first(copy.deepcopy(model).to(torch.bfloat16), 4) is None
    assert first(copy.deepcopy(model).to("meta"), 4) is None


@needs_copies
def test_a_long_text_of_one_row_takes_copies_on_the_way(model, monkeypatch):
    monkeypatch.setattr(decoding_products, "SIZE", 0)
    made = []

    def noted(*projections, copy):
        made.append(copy)
        return product(*projections, copy=copy)

    monkeypatch.setattr(decoding_cache, "product", noted)
    ids = torch.tensor([[8, 9, 10]])
    for tokens, copies in ((2 * decoding_products.LATE - 1, 0), (2 * decoding_products.LATE, 2 * 4 + 1)):
        made.clear()
        options = {"min_new_tokens": tokens, "max_new_tokens": tokens, "do_sample": False}
        expected = model.generate(ids, **options)
        assert model.generate(ids, **options, custom_generate=search).tolist() == expected.tolist()
        assert made.count(True) == copies
