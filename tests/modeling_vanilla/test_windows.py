# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A window in chunks is the window as a mask: the same numbers, the same gradients, and no table of all pairs."""

import math

import pytest
import torch

from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForMaskedLM, attention, stacks
from modeling_vanilla.look.capture import capture
from modeling_vanilla.windows import Window, window_of, windowed_attention

SIZES = dict(vocab_size=97, d_model=24, d_ff=29, num_layers=2, num_heads=4, dropout=0.0)


def naive(query, key, value, window: Window, scaling: float) -> torch.Tensor:
    """Equation 1 by the definition: one query after the other, over the keys that it sees. (B, T, H, K)."""
    batch, heads, length, _ = query.shape
    context = torch.zeros(batch, length, heads, value.shape[3], dtype=query.dtype)
    for b in range(batch):
        for i in range(length):
            seen = [
                j
                for j in range(length)
                if abs(i - j) <= window.half
                and (j <= i or not window.is_causal)
                and (window.real is None or window.real[b, j])
            ]
            for h in range(heads if seen else 0):
                scores = [float(query[b, h, i] @ key[b, h, j]) * scaling for j in seen]
                total = sum(math.exp(score) for score in scores)
                for score, j in zip(scores, seen, strict=True):
                    context[b, i, h] += math.exp(score) / total * value[b, h, j]
    return context


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize(("length", "half"), [(13, 2), (12, 3), (9, 1), (11, 0), (5, 7)])
@pytest.mark.parametrize("padded", [False, True])
def test_the_chunks_are_the_definition(is_causal, length, half, padded):
    torch.manual_seed(0)
    query, key = (torch.randn(2, 4, length, 6, dtype=torch.float64) for _ in range(2))
    value = torch.randn(2, 4, length, 5, dtype=torch.float64)
    real = torch.ones(2, length, dtype=torch.bool)
    real[0, : length // 3], real[1, -2:] = False, False
    window = Window(half, is_causal, real if padded else None)
    mine = windowed_attention(torch.nn.Identity(), query, key, value, window, 0.4)
    torch.testing.assert_close(mine, naive(query, key, value, window, 0.4), atol=1e-12, rtol=1e-12)


def build(variant: str, **options):
    torch.manual_seed(0)
    cls = VanillaForCausalLM if variant == "decoder" else VanillaForMaskedLM
    return cls(VanillaConfig(variant=variant, attention_window=4, **(SIZES | options)))


@pytest.fixture
def calls(monkeypatch):
    """Count how often an attention runs in chunks."""
    counted = []

    def counting(*args, **kwargs):
        counted.append(1)
        return windowed_attention(*args, **kwargs)

    monkeypatch.setattr(attention, "windowed_attention", counting)
    return counted


@pytest.mark.parametrize("variant", ["encoder", "decoder"])
def test_a_model_with_a_window_is_the_one_with_the_mask(variant, calls, monkeypatch):
    model, ids = build(variant), torch.randint(4, 97, (3, 21))
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    mask[2, -3:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
    chunked = model(**inputs)
    chunked.loss.backward()
    assert len(calls) == 2
    slopes = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    monkeypatch.setattr(stacks, "window_of", lambda *args: None)
    masked = model(**inputs)
    masked.loss.backward()
    assert len(calls) == 2
    torch.testing.assert_close(chunked.loss, masked.loss)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, slopes[name], atol=1e-6, rtol=1e-4)


def test_generate_reads_the_prompt_in_chunks_and_writes_by_mask(calls):
    model, ids = build("decoder").eval(), torch.randint(4, 97, (2, 21))
    options = dict(max_new_tokens=9, min_new_tokens=9, do_sample=False)
    written = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert len(calls) == 2  # two layers, once
    model.set_attn_implementation("eager")
    assert torch.equal(written, model.generate(ids, attention_mask=torch.ones_like(ids), **options))
    assert len(calls) == 2


def test_what_a_mask_has_to_say(calls):
    """Packed rows, masks of pairs, short rows, other kernels: none runs in chunks."""
    model, ids = build("decoder").eval(), torch.randint(4, 97, (1, 21))
    vectors = torch.zeros(1, 21, 24)
    packed = torch.cat([torch.arange(12), torch.arange(9)])[None]
    assert window_of(model.config, True, vectors, None) is not None
    assert window_of(model.config, True, vectors, None, packed) is None
    assert window_of(model.config, True, vectors, torch.ones(1, 1, 21, 21)) is None
    assert window_of(model.config, True, vectors[:, :8], None) is None
    assert window_of(build("decoder", attn_implementation="eager").config, True, vectors, None) is None
    model(ids, position_ids=packed)
    assert calls == []


def test_who_looks_inside_sees_the_weights(calls):
    model, ids = build("encoder").eval(), torch.randint(4, 97, (1, 21))
    with torch.no_grad(), capture(model) as seen:
        model(ids)
    assert calls == []
    model.set_attn_implementation("eager")
    with torch.no_grad():
        expected = model(ids, output_attentions=True).attentions
    for (_, layer), record in seen.items():
        torch.testing.assert_close(record.calls[0], expected[layer], atol=5e-6, rtol=0)
