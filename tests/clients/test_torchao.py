# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Eight-bit weights: by torchao on the model, by torchao through `from_pretrained`, and by torch's own quantisation."""

import copy
import warnings

import pytest
import torch
from torch import nn

VARIANTS = ("encoder-decoder", "encoder", "decoder")
STEPS = 127  # of a symmetric 8-bit scale, from 0 to the largest weight of a row


@pytest.fixture(scope="module")
def torchao():
    """Return the module, or skip by its name."""
    return pytest.importorskip("torchao.quantization")


@pytest.fixture
def inputs_of(tokens):
    """Return a function that makes inputs of a variant: four rows, one with padding on the left, one on the right."""

    def make(variant: str) -> dict[str, torch.Tensor]:
        ids = tokens(4, 12)
        mask = torch.ones_like(ids)
        mask[0, :3] = 0
        mask[1, 9:] = 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        return inputs | ({"decoder_input_ids": tokens(4, 6, seed=1)} if variant == "encoder-decoder" else {})

    return make


@torch.no_grad()
def assert_close(quantised, model, inputs: dict[str, torch.Tensor], bound: float) -> None:
    """Compare logits: relative error (rounding to 1/127 of the largest gives about 1 %), and nearly all best tokens."""
    got, expected = quantised(**inputs).logits, model(**inputs).logits
    error = ((got - expected).norm() / expected.norm()).item()
    assert 1e-4 < error < bound, "exactly the same logits would mean that nothing was quantised"
    assert (got.argmax(-1) == expected.argmax(-1)).float().mean() > 0.8


def assert_generates(quantised, inputs: dict[str, torch.Tensor]) -> None:
    """See that every step of `generate`, with its cache, picks what one pass over the whole text would pick."""
    sources = {name: value for name, value in inputs.items() if name != "decoder_input_ids"}
    sources["attention_mask"][1] = 1  # prompts are padded on the left
    out = quantised.generate(
        **sources, max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    steps = torch.stack(out.logits, dim=1)  # (B, steps, V)
    if quantised.config.is_encoder_decoder:
        whole = {**sources, "decoder_input_ids": out.sequences[:, :-1]}
    else:
        new = torch.ones(4, 5, dtype=torch.long)
        whole = {
            "input_ids": out.sequences[:, :-1],
            "attention_mask": torch.cat([sources["attention_mask"], new], dim=1),
        }
    with torch.no_grad():
        again = quantised(**whole).logits[:, -steps.shape[1] :]
    torch.testing.assert_close(steps, again, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_int8_weights_are_the_rounded_ones(torchao, build, inputs_of, variant, tied):
    """The quantised model gives what the model gives with each row of each matrix rounded; embeddings stay whole."""
    model = build(variant, tie_word_embeddings=tied)
    quantised = copy.deepcopy(model)
    torchao.quantize_(quantised, torchao.Int8WeightOnlyConfig())
    rounded = copy.deepcopy(model)
    if tied:
        rounded.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    count = 0
    with torch.no_grad():
        for name, layer in rounded.named_modules():
            if isinstance(layer, nn.Linear):
                weight = quantised.get_submodule(name).weight.dequantize()
                step = layer.weight.abs().amax(1, keepdim=True) / STEPS
                assert ((weight - layer.weight).abs() <= step * 0.51).all()
                assert not torch.equal(weight, layer.weight)
                layer.weight.copy_(weight)
                count += 1
    assert count == {"encoder-decoder": 2 * 6 + 2 * 10, "encoder": 2 * 6 + 1, "decoder": 2 * 6}[variant] + 1
    inputs = inputs_of(variant)
    with torch.no_grad():
        torch.testing.assert_close(quantised(**inputs).logits, rounded(**inputs).logits, atol=1e-4, rtol=1e-4)
    assert_close(quantised, model, inputs, bound=0.04)
    assert torch.equal(quantised.get_input_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("variant", VARIANTS)
def test_int8_activations(torchao, build, inputs_of, variant):
    model = build(variant)
    quantised = copy.deepcopy(model)
    torchao.quantize_(quantised, torchao.Int8DynamicActivationInt8WeightConfig())
    assert_close(quantised, model, inputs_of(variant), bound=0.06)


@pytest.mark.parametrize("variant", ["encoder-decoder", "decoder"])
def test_int8_generates(torchao, build, inputs_of, variant):
    model = build(variant, eos_token_id=None)
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    assert_generates(model, inputs_of(variant))


@pytest.mark.parametrize("config", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_from_pretrained_and_back(torchao, build, inputs_of, tmp_path, variant, config):
    """transformers leaves the tied projection alone, and the quantised model can be saved and loaded."""
    from transformers import TorchAoConfig

    model = build(variant)
    model.save_pretrained(tmp_path / "whole")
    head = type(model)
    settings = TorchAoConfig(getattr(torchao, config)())
    quantised = head.from_pretrained(tmp_path / "whole", quantization_config=settings).eval()
    inputs = inputs_of(variant)
    assert_close(quantised, model, inputs, bound=0.06)
    token_matrix = quantised.get_input_embeddings().weight
    assert quantised.lm_head.weight is token_matrix
    assert torch.equal(token_matrix, model.lm_head.weight)

    quantised.save_pretrained(tmp_path / "eight")
    assert (tmp_path / "eight" / "model.safetensors").exists()
    again = head.from_pretrained(tmp_path / "eight").eval()
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, quantised(**inputs).logits)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_torchao(build, inputs_of, variant):
    """torch's own dynamic quantisation, which replaces each nn.Linear by a module of another class."""
    model = build(variant)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated in favour of torchao
        quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    assert not [m for m in quantised.modules() if type(m) is nn.Linear]
    assert_close(quantised, model, inputs_of(variant), bound=0.08)
    if variant != "encoder":
        ids = inputs_of(variant)["input_ids"]
        assert quantised.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4).shape[0] == 4
