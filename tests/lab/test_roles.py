"""W_q = W_k gives symmetric scores; the values of another row are that row's answers."""

import pytest
import torch

from lab import roles
from lab.tagging import rows


@pytest.mark.parametrize("rung", roles.RUNGS)
def test_scores_are_symmetric_where_q_and_k_are_one(rung):
    model = roles.build(rung, 1)
    scores, weights = roles.scores_of(model, next(rows("copy", 2, 3, 5))[0])
    torch.testing.assert_close(weights, scores.softmax(-1))
    is_symmetric = rung in ("W_q = W_k", "none")
    assert (roles.asymmetry(scores) < 1e-6) == is_symmetric
    assert torch.allclose(scores, scores.transpose(1, 2), atol=1e-5) == is_symmetric


def test_asymmetry_of_an_antisymmetric_matrix_is_two():
    matrix = torch.tensor([[[0.0, 3.0], [-3.0, 0.0]]])
    assert roles.asymmetry(matrix) == pytest.approx(2)


def test_an_exchange_with_the_row_itself_changes_nothing():
    model = roles.build("three matrices", 1)
    digits = next(rows("reverse", 2, 1, 5))[0]  # one row: the row before it is itself
    alike, other, looks = roles.exchanged(model, "V", "reverse", digits)
    assert alike == other
    assert looks == 1
    right = model(digits).logits.argmax(-1).eq(digits.flip(1)).float().mean().item()
    assert alike == pytest.approx(right)


def test_roles_runs(smoke, monkeypatch):
    monkeypatch.setattr(roles, "STEPS", {True: 3})
    assert smoke(roles, "roles").tables[0].rows[1][4] == [pytest.approx(0, abs=1e-6)]
