# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""One head changed: what it must equal is a model whose weights say the same, or weights that are seen bare."""

import pytest
import torch
from small_models import BUILD, ids
from torch import nn
from transformers import AttentionInterface

from modeling_vanilla.look.capture import capture
from modeling_vanilla.look.interventions import CHANGES, intervene
from modeling_vanilla.look.projections import output_projection

HEADS = 4


class Bare(nn.Module):
    """An attention whose values are the unit vectors: what it returns are its weights, (B, T, H, S)."""

    layer_idx = 0
    num_key_value_groups = 2
    is_causal = False

    def forward(self, query, key, mask):
        values = torch.eye(key.shape[2]).expand(*key.shape[:2], -1, -1)
        return AttentionInterface().get_interface("sdpa", None)(self, query, key, values, mask)[0]


@pytest.fixture
def bare():
    """Return a call of bare attention: B = 2, T = 3, S = 5, four heads on two keys; what each row may see."""
    query, key = torch.randn(2, HEADS, 3, 6), torch.randn(2, 2, 5, 6)
    mask = torch.tensor([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]).bool().expand(2, 1, 3, 5)
    model = nn.Sequential(Bare())
    return model, lambda: model[0](query, key, mask), mask[:, 0]


def call(model) -> torch.Tensor:
    """Return what a model says of two rows, the second with padding behind it."""
    inputs = {"input_ids": ids(2, 7), "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2])}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids(2, 4, seed=1)
    return model(**inputs)[0][:, :4]


def places(model) -> list[tuple[str, int, str]]:
    """Return kind, layer and name of every attention, in the order in which they run."""
    with capture(model) as seen, torch.no_grad():
        call(model)
    return [(layer.kind, layer.layer, layer.name) for layer in seen.values()]


@pytest.mark.parametrize("architecture", BUILD)
def test_a_head_of_zero_is_a_head_whose_output_projection_is_zero(architecture, randomise):
    model = randomise(BUILD[architecture]())
    for kind, layer, name in places(model)[::2]:
        with intervene(model, (kind, layer, 2), "zero"), torch.no_grad():
            changed = call(model)
        projection = output_projection(model, name, HEADS)
        kept = projection.clone()
        with torch.no_grad():
            plain = call(model)
            projection[2] = 0  # a view of the weight
            expected = call(model)
            projection.copy_(kept)
        torch.testing.assert_close(changed, expected, rtol=1e-5, atol=1e-5)
        assert (changed - plain).abs().max() > 1e-3, "it says something"
        with torch.no_grad():
            assert torch.equal(call(model), plain), "nothing stays"


@pytest.mark.parametrize("architecture", ["BART", "Marian", "Llama, grouped keys", "encoder-decoder", "window"])
def test_a_uniform_head_is_a_head_whose_queries_are_zero(architecture, randomise):
    model = randomise(BUILD[architecture]())
    for kind, layer, name in places(model)[::2]:
        with intervene(model, (kind, layer, 1), "uniform"), torch.no_grad():
            changed = call(model)
        projection = model.get_submodule(name).q_proj
        kept = {key: value.clone() for key, value in projection.state_dict().items()}
        with torch.no_grad():
            for value in projection.parameters():
                value.unflatten(0, (HEADS, -1))[1] = 0
            expected = call(model)
        projection.load_state_dict(kept)
        torch.testing.assert_close(changed, expected, rtol=1e-5, atol=1e-5)


def test_uniform_over_what_may_be_seen(bare):
    model, weights, seen = bare
    plain = weights()
    with intervene(model, ("encoder", 0, 3), "uniform"):
        changed = weights()
    torch.testing.assert_close(changed[:, :, 3], seen / seen.sum(-1, keepdim=True))
    assert torch.equal(changed[:, :, :3], plain[:, :, :3])


def test_permuted_within_what_may_be_seen(bare):
    model, weights, seen = bare
    plain = weights()

    def permuted(seed):
        with intervene(model, ("encoder", 0, 1), "permute", seed):
            return weights()

    changed = permuted(0)
    assert torch.equal(changed[:, :, [0, 2, 3]], plain[:, :, [0, 2, 3]])
    torch.testing.assert_close(changed[:, :, 1].sort(-1).values, plain[:, :, 1].sort(-1).values)
    assert not changed[:, :, 1][~seen].any()
    assert not torch.allclose(changed[:, :, 1], plain[:, :, 1])
    assert torch.equal(changed, permuted(0))
    drawn = torch.stack([permuted(seed)[0, 0, 1] for seed in range(200)])  # (200, S); four of them may be seen
    torch.testing.assert_close(drawn.mean(0), seen[0, 0] / 4, atol=0.08, rtol=0)


@pytest.mark.parametrize("change", CHANGES)
def test_inside_generate(change, randomise):
    """A head that is zero, uniform or exchanged at every step of a search; other rows of a step are the same."""
    model = randomise(BUILD["encoder-decoder"]())
    inputs = {"input_ids": torch.tensor([[5, 9, 7, 8, 6]]), "max_new_tokens": 4, "num_beams": 2}
    plain = model.generate(**inputs)
    differs = False
    for kind, layer in (("decoder", 1), ("cross", 2)):
        with intervene(model, (kind, layer, 0), change):
            differs |= not torch.equal(model.generate(**inputs), plain)
    assert differs
    assert torch.equal(model.generate(**inputs), plain)


@pytest.mark.parametrize(
    ("place", "change", "rule"),
    [
        (("encoder", 0, 4), "zero", "head 4 does not exist"),
        (("encoder", 1, 0), "zero", "layer 1 does not exist"),
        (("cross", 0, 0), "zero", "kind 'cross'"),
        (("encoder", 0, True), "zero", "head True"),
        (("encoder", 0, 0), "blur", "change: 'blur' must be one of zero, uniform, permute"),
    ],
)
def test_bad_input(bare, place, change, rule):
    model, weights, _ = bare
    with pytest.raises(ValueError, match=rule), intervene(model, place, change):
        weights()
