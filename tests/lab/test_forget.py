"""What is forgotten: places of the source, gradients, and pairs."""

import argparse

import pytest
import torch
from torch import nn

from lab import forget, made


class Answers(nn.Module):
    """Answers the target, but for one token of the source, which it never gets right."""

    def __init__(self, target: torch.Tensor, wrong: int):
        super().__init__()
        self.target, self.wrong = target, wrong

    def forward(self, source, written):
        """Return logits that are certain."""
        answer = self.target[:, 1:].clone()
        answer[:, self.wrong] += 1
        return nn.functional.one_hot(answer, 20).float()


@pytest.mark.parametrize(("task", "place"), [("copy", 1), ("reverse", 3)])
def test_accuracy_is_that_of_the_place_in_the_source(task, place):
    """Of five tokens the second answer is about the second one, or about the fourth."""
    source, target = next(made.pairs(task, 0, 7, 5, 5, 8))
    expected = [1.0] * 5
    expected[place] = 0.0
    assert forget.accuracy_by_source(Answers(target, 1), source, target, task) == expected


def test_gradient_of_a_linear_recurrence_is_the_power_of_its_matrix(monkeypatch):
    """h_t = a h_{t-1} + x_t: the first token's gradient is a^distance of the last one's."""

    class Linear(nn.Module):
        def forward(self, vectors):
            powers = 0.9 ** torch.arange(vectors.shape[1] - 1, -1, -1, dtype=vectors.dtype)
            return (vectors * powers[:, None]).sum(1, keepdim=True)

    monkeypatch.setitem(forget.GRADIENTS, "linear", Linear)
    assert forget.fading("linear", 0) == pytest.approx([0.9**distance for distance in forget.DISTANCES])


def test_gradients_by_distance():
    """A convolution of 6 layers sees 6 places back and nothing before; attention sees every place."""
    ratios = {name: dict(zip(forget.DISTANCES, forget.fading(name, 0))) for name in forget.GRADIENTS}
    reach = forget.LAYERS
    assert [ratio > 0 for ratio in ratios["convolution"].values()] == [n <= reach for n in forget.DISTANCES]
    assert all(ratios["self-attention"][n] > ratios["GRU"][n] for n in (25, 50, 99))
    assert 0 < ratios["tanh RNN"][99] < 1e-20


def test_the_answer_names_the_first_and_the_last_token():
    source, target = next(forget.ends(0, 7, 7, rows=5))
    assert source.shape == (5, 8) and source[:, -1].eq(made.END).all() and target[:, 0].eq(made.START).all()
    named = [divmod(number, forget.PAIRED) for number in (target[:, 1] - made.FIRST).tolist()]
    assert named == [(row[0], row[-2]) for row in (source - made.FIRST).tolist()]


def test_lab_runs(monkeypatch):
    monkeypatch.setattr(forget, "DISTANCES", (1, 8))
    monkeypatch.setattr(forget, "STEPS", ((2, 2),))
    monkeypatch.setattr(forget, "LENGTHS", (2, 5))
    outcome = forget.run(argparse.Namespace(seeds=2, quick=True))
    kept, gradients, joined = outcome.tables
    assert len(kept.rows) == 6 and len(kept.rows[0][2]) == 2 and len(gradients.rows) == len(forget.GRADIENTS)
    assert len(joined.rows) == len(forget.READERS)
    assert "exactly 0 with convolution" in outcome.conclusion
