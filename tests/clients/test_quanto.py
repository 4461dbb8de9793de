# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""optimum-quanto: eight-bit weights give what the rounded weights give, and go to a file and back."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

quanto = pytest.importorskip("optimum.quanto")

from optimum.quanto.models import QuantizedTransformersModel

AUTO_CLASSES = {
    "encoder-decoder": AutoModelForSeq2SeqLM,
    "encoder": AutoModelForMaskedLM,
    "decoder": AutoModelForCausalLM,
}
VARIANTS = ("encoder-decoder", "encoder", "decoder")
STEPS = 127  # of a symmetric 8-bit scale, from 0 to the largest weight of a row


@pytest.fixture
def inputs_of(tokens):
    """Return a function that makes inputs of a variant, (B, S) with padding and (B, T)."""

    def make(variant: str) -> dict[str, torch.Tensor]:
        ids = tokens(2, 7)
        mask = torch.ones_like(ids)
        mask[1, 5:] = 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        return inputs | ({"decoder_input_ids": tokens(2, 3, seed=1)} if variant == "encoder-decoder" else {})

    return make


@pytest.fixture
def eight_bit():
    """Return a function that makes a copy of a model whose linear layers hold eight bits."""

    def make(model):
        quantised = copy.deepcopy(model)
        quanto.quantize(quantised, weights=quanto.qint8)
        quanto.freeze(quantised)
        return quantised

    return make


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_int8_weights_are_the_rounded_ones(build, eight_bit, inputs_of, variant):
    model = build(variant)
    quantised, rounded = eight_bit(model), copy.deepcopy(model)
    rounded.lm_head.weight = nn.Parameter(model.lm_head.weight.clone())  # the token matrix stays whole
    layers = {name: layer for name, layer in rounded.named_modules() if isinstance(layer, nn.Linear)}
    assert len(layers) == {"encoder-decoder": 2 * 6 + 2 * 10, "encoder": 2 * 6 + 1, "decoder": 2 * 6}[variant] + 1
    for name, layer in layers.items():
        weight = quantised.get_submodule(name).weight.dequantize()
        step = layer.weight.abs().amax(1, keepdim=True) / STEPS
        assert ((weight - layer.weight).abs() <= step * 0.51).all()
        assert not torch.equal(weight, layer.weight)
        layer.weight.copy_(weight)
    inputs = inputs_of(variant)
    logits, expected = quantised(**inputs).logits, model(**inputs).logits
    torch.testing.assert_close(logits, rounded(**inputs).logits, atol=1e-4, rtol=1e-4)
    assert 1e-4 < (logits - expected).norm() / expected.norm() < 0.04
    assert torch.equal(quantised.get_input_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_saved_and_loaded(build, inputs_of, tmp_path, variant):
    """By the class that quanto has for models of transformers, given the auto class of the variant.

    The output projection stays out: it is the token matrix. With it, quanto takes a translator for one of two token matrices,
    and leaves the second one, which no file holds, as it finds it.
    """

    class Quantised(QuantizedTransformersModel):
        auto_class = AUTO_CLASSES[variant]

    quantised = Quantised.quantize(build(variant), weights=quanto.qint8, exclude="lm_head")
    quantised.save_pretrained(tmp_path)
    again = Quantised.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.get_input_embeddings().weight
    inputs = inputs_of(variant)
    assert torch.equal(again(**inputs).logits, quantised(**inputs).logits)
