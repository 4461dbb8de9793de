# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The lab of learning: slopes are those of the formulas, and a step against them lowers the loss."""

import math

import pytest
import torch

from lab import learning


@pytest.fixture(scope="module")
def step():
    return learning._first_step(seed=3)


def test_the_slope_by_a_logit_is_probability_minus_one(step):
    assert step["gradient"] == pytest.approx(step["formula"], rel=1e-9)
    assert step["gradient"] < 0


def test_the_slope_by_a_weight_is_that_of_the_loss_beside_it(step):
    assert step["weight"] == pytest.approx(step["difference"], rel=1e-5)


def test_one_step_lowers_the_loss(step):
    assert step["after"] < step["before"]


def test_even_probabilities_cost_the_logarithm_of_the_vocabulary(monkeypatch):
    batch = next(learning.pairs("reverse", 0, 2, 5, 5))
    monkeypatch.setattr(learning, "_logits", lambda model, batch: torch.zeros(2, 6, learning.VOCABULARY))
    assert learning._loss(None, batch).item() == pytest.approx(math.log(learning.VOCABULARY))


def test_a_good_rate_learns_and_a_tiny_one_does_not():
    good, tiny = (learning._train(rate, 0, 30) for rate in (3e-3, 1e-7))
    assert sum(good[-5:]) / 5 < sum(tiny[-5:]) / 5 - 0.5
