"""The learning rate against the paper's equation 3 and closed forms, and Adam against its own definition."""

import math

import pytest
import torch

from train.model.optim import build_optimizer, learning_rate
from train.settings.sections import OptimSection


@pytest.mark.parametrize("step", [1, 2, 399, 400, 401, 4000, 100_000])
@pytest.mark.parametrize(("d_model", "warmup"), [(512, 400), (24, 4000)])
def test_default_is_equation_3(step, d_model, warmup):
    expected = d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
    assert learning_rate(step, OptimSection(warmup_steps=warmup), d_model) == pytest.approx(expected, rel=1e-12)


def test_inverse_sqrt_with_a_peak_of_its_own():
    optim = OptimSection(lr=0.005, warmup_steps=16)
    assert learning_rate(8, optim, 512) == pytest.approx(0.0025)
    assert learning_rate(16, optim, 512) == pytest.approx(0.005)
    assert learning_rate(64, optim, 512) == pytest.approx(0.0025)  # four times the warm-up: half the peak


@pytest.mark.parametrize("schedule", ["inverse_sqrt", "cosine", "linear", "constant"])
def test_every_schedule_climbs_linearly_and_peaks_at_the_end_of_the_warmup(schedule):
    optim = OptimSection(lr=0.3, warmup_steps=10, schedule=schedule)
    rates = [learning_rate(step, optim, 8, 50) for step in range(1, 51)]
    assert rates[:10] == pytest.approx([0.03 * step for step in range(1, 11)])
    assert max(rates) == rates[9]


def test_cosine_and_linear_in_closed_form():
    cosine = OptimSection(lr=1.0, warmup_steps=10, schedule="cosine", min_lr=0.2)
    linear = OptimSection(lr=1.0, warmup_steps=10, schedule="linear", min_lr=0.2)
    assert learning_rate(30, cosine, 8, 50) == pytest.approx(0.6)  # half-way: the mean of both ends
    assert learning_rate(20, cosine, 8, 50) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate(20, linear, 8, 50) == pytest.approx(0.8)
    for optim in (cosine, linear):
        assert learning_rate(50, optim, 8, 50) == pytest.approx(0.2)
        assert learning_rate(80, optim, 8, 50) == pytest.approx(0.2)


def test_constant_stays_and_no_warmup_starts_at_the_peak():
    optim = OptimSection(lr=0.1, warmup_steps=0, schedule="constant")
    assert {learning_rate(step, optim, 8) for step in (1, 2, 1000)} == {0.1}


def test_steps_are_counted_from_one_and_decay_needs_an_end():
    with pytest.raises(ValueError, match="step: 0"):
        learning_rate(0, OptimSection(), 8)
    with pytest.raises(ValueError, match="cosine"):
        learning_rate(20, OptimSection(schedule="cosine", warmup_steps=2), 8)


def test_one_update_is_adams_and_decay_touches_matrices_only():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5))
    optim = OptimSection(weight_decay=0.1, beta1=0.9, beta2=0.98, eps=1e-9)
    optimizer = build_optimizer(model, optim)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.randn(7, 3)).pow(3).sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        # After one step both bias-corrected moments are the gradient's own: the update is lr * g / (|g| + eps).
        g = parameter.grad
        decay = 0.01 * 0.1 * before[name] if parameter.dim() == 2 else 0.0
        expected = before[name] - decay - 0.01 * g / (g.abs() + 1e-9)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-7)


def test_tied_and_frozen_parameters_are_counted_once_or_not_at_all():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 4), "b": torch.nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    model["a"].bias.requires_grad_(False)
    groups = build_optimizer(model, OptimSection()).param_groups
    assert [len(group["params"]) for group in groups] == [1, 1]
