"""Oracles of a dictionary: one-hot keys, equal keys, a key that is missing, one that is changed."""

import math

import pytest
import torch

from lab import lookup


@pytest.mark.parametrize("scale", [0.0, 1.5, 40.0])
def test_the_weight_of_the_right_key_is_the_softmax_of_one_and_zeros(scale):
    weight, distance = lookup.present(3, scale)
    assert weight == pytest.approx(math.exp(scale) / (math.exp(scale) + lookup.ENTRIES - 1))
    if scale == 40.0:
        assert distance < 1e-12  # dict[key]


def test_equal_keys_share_and_a_missing_key_is_answered_by_all():
    asked = lookup.questions(lookup.EQUAL)
    assert asked["there twice"][0] == asked["there twice"][1] == pytest.approx(0.5, abs=1e-3)
    torch.testing.assert_close(asked["not there"], torch.full((6,), 1 / 6, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(4))
def test_changing_one_key_moves_all_other_weights_by_one_factor(seed):
    before, after, common = lookup.changed(seed)
    torch.testing.assert_close(after[1:] / before[1:], torch.full((5,), common, dtype=torch.float64))
    assert after.sum().item() == pytest.approx(1)
    assert not torch.isclose(after[0] / before[0], after[1] / before[1])


def test_lookup_runs(smoke):
    outcome = smoke(lookup, "lookup", seeds=2)
    assert "dict[key]" in outcome.conclusion
