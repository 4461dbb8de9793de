# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The lab of both halves: the encoder sees to the right, the decoder does not, and cutting changes no vector."""

import pytest
import torch

from lab import halves
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from modeling_vanilla.convert.variants import cut


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    sizes = {"d_model": 12, "d_ff": 20, "num_heads": 3, "num_layers": 2, "max_position_embeddings": 16}
    return VanillaForConditionalGeneration(VanillaConfig(vocab_size=31, **sizes)).eval()


def half(whole, name):
    part = cut(whole, name).eval()
    part.set_attn_implementation("eager")
    return part


IDS = torch.tensor([[2, 7, 11, 13, 3]])


def test_the_decoder_sees_nothing_to_its_right(whole):
    measured = halves._measure(half(whole, "decoder"), IDS)
    first, last = list(measured.values())[1:]
    assert (measured[halves.RIGHT], first) == (0, 0)
    assert last > 0


def test_the_encoder_sees_both_sides(whole):
    measured = halves._measure(half(whole, "encoder"), IDS)
    assert all(value > 0 for value in measured.values())
    weights = halves._attentions(half(whole, "encoder"), IDS)
    assert weights.shape == (3, 5, 5)
    right = sum(weights[head, row, row + 1 :].sum() for head in range(3) for row in range(5)) / 15
    assert measured[halves.RIGHT] == pytest.approx(right.item(), rel=1e-5)


def test_the_encoder_cut_out_is_the_encoder_within(whole):
    assert halves._gap(whole, half(whole, "encoder"), IDS) < 1e-6


def test_dates_become_batches_with_both_ends():
    characters, batches = halves._data()
    source, target = batches[0]
    assert source.shape[0] == target.shape[0] == 32
    for row in (*source, *target):
        real = row[row.ne(halves.PAD)]
        assert (real[0], real[-1]) == (halves.START, halves.END)
    assert {*halves.TEXT} <= {*characters}
