"""The variance of q.k is d_k; the Jacobian of the softmax is torch's."""

import math

import pytest
import torch

from lab import scale
from lab.outcome import Table


@pytest.mark.parametrize("width", [4, 64, 512])
def test_the_spread_of_random_scores_is_the_root_of_their_width(width):
    assert scale.of_random(width, 2)["std"] == pytest.approx(math.sqrt(width), rel=0.1)


@pytest.mark.parametrize("heads", [1, 8])
def test_the_spread_is_that_of_one_head_and_not_of_the_model(heads):
    assert scale.of_heads(heads, 2) == pytest.approx(math.sqrt(512 / heads), rel=0.05)


def test_the_gradient_is_the_jacobian_of_the_softmax(monkeypatch):
    monkeypatch.setattr(scale, "DRAWS", 1)
    numbers = scale.of_random(16, 4)
    draw = torch.Generator().manual_seed(4)
    query, key = torch.randn(1, 1, 16, generator=draw), torch.randn(1, scale.KEYS, 16, generator=draw)
    scores = (query @ key.transpose(1, 2)).flatten() / 4
    jacobian = torch.autograd.functional.jacobian(lambda s: s.softmax(0), scores)
    assert numbers["gradient scaled"] == pytest.approx(jacobian.norm().item(), rel=1e-4)
    assert numbers["largest scaled"] == pytest.approx(scores.softmax(0).max().item(), rel=1e-4)


def test_scale_runs(smoke, monkeypatch):
    monkeypatch.setattr(scale, "STEPS", {True: 2})
    monkeypatch.setattr(scale, "TRAINED", {True: (8, 16)})
    learned: Table = smoke(scale, "scale").tables[-1]
    assert [row[:2] for row in learned.rows] == [[k, name] for k in (8, 16) for name in scale.SCORES]
