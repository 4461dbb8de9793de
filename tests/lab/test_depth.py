"""Before training: what a stack does to two places, and which gradients reach the first layer."""

import pytest
import torch

from lab import depth
from lab.tagging import rows


def test_alike_is_one_for_equal_places_and_zero_for_orthogonal_ones():
    states = torch.zeros(3, 4, 5)
    states[:, 0, 0] = 2.0
    states[:, 2, 0] = 7.0
    assert depth.alike(states) == pytest.approx(1)
    states[:, 2] = torch.tensor([0.0, 1, 0, 0, 0])
    assert depth.alike(states) == pytest.approx(0)


@pytest.mark.parametrize("around", depth.AROUND)
def test_states_are_those_of_each_layer_in_turn(around):
    model = depth.build(around, 2, 1).eval()
    digits = next(rows("copy", 3, 2, 8))[0]
    states = depth.states_by_layer(model, digits)
    assert len(states) == 3
    for layer, read, written in zip(model.model.encoder.layers, states, states[1:]):
        assert type(layer) is depth.AROUND[around]
        torch.testing.assert_close(layer(read), written)
    torch.testing.assert_close(model.classifier(states[-1]), model(digits).logits)


def test_without_residual_connections_two_places_become_one():
    batch = next(rows("copy", 3, 8, 8))
    likeness = {around: depth.at_the_start(depth.build(around, 4, 1), batch)[2] for around in depth.AROUND}
    assert likeness["no residual"] > 0.999 > likeness["both"]


def test_depth_runs(smoke, monkeypatch):
    monkeypatch.setattr(depth, "STEPS", {True: 1})
    monkeypatch.setattr(depth, "ORDER_STEPS", {True: 1})
    monkeypatch.setattr(depth, "DEEP", 3)
    outcome = smoke(depth, "depth")
    assert len(outcome.tables[0].rows) == 16
    assert len(outcome.tables[1].rows) == 9
