"""Order: what is exact without positions, what sinusoids are, and how a model gets longer ones."""

import argparse
import math

import pytest
import torch

from lab import order
from modeling_vanilla import VanillaForTokenClassification
from modeling_vanilla.embeddings import sinusoid_table


def test_without_positions_a_permutation_goes_through():
    moved, apart = order.permuted("none", 0)
    assert moved < 1e-12 and apart < 1e-12
    moved, apart = order.permuted("sinusoidal", 0)
    assert moved > 0.1 and apart > 0.1


def test_the_rotation_is_that_of_the_sum_of_angles():
    """sin(a + b) = sin a cos b + cos a sin b, and cos(a + b) = cos a cos b - sin a sin b, pair by pair."""
    dim, distance = 6, 5
    matrix = order.rotation(distance, dim)
    assert torch.allclose(matrix @ matrix.T, torch.eye(dim).double())
    for pair in range(dim // 2):
        b = distance / 10000 ** (2 * pair / dim)
        block = matrix[2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2]
        assert torch.allclose(block, torch.tensor([[math.cos(b), math.sin(b)], [-math.sin(b), math.cos(b)]]).double())
    table = sinusoid_table(9, dim).double()
    assert torch.allclose(table[distance], matrix @ table[0], atol=1e-6)
    assert order.rotated() < 1e-6


def test_a_sinusoidal_model_is_loaded_with_more_positions(tmp_path):
    """Places that it had give what they gave; those behind them work; learned positions end where the table does."""
    torch.manual_seed(0)
    short, tokens = {"max_position_embeddings": 8}, torch.randint(4, 20, (2, 12))
    model = VanillaForTokenClassification(order.config_of("encoder", **short)).eval()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="8"):
        model(tokens)
    longer = VanillaForTokenClassification.from_pretrained(tmp_path, max_position_embeddings=12).eval()
    assert torch.allclose(longer(tokens[:, :8]).logits, model(tokens[:, :8]).logits, atol=1e-6)
    assert longer(tokens).logits.shape == (2, 12, order.FIRST + order.SYMBOLS)
    assert torch.equal(longer.model.encoder.embeddings.positions.table, sinusoid_table(12, order.WIDTH))
    VanillaForTokenClassification(order.config_of("encoder", "learned", **short)).save_pretrained(tmp_path)
    with pytest.raises((ValueError, RuntimeError)):
        VanillaForTokenClassification.from_pretrained(tmp_path, max_position_embeddings=12)


@pytest.mark.parametrize("variant", order.STACKS)
def test_the_answer_is_the_token_before(variant):
    """The loss is that of the token before, at each place but the first, and of nothing else."""
    torch.manual_seed(0)
    model, tokens = order.tagger(variant, "none").eval(), next(order.rows(0, 5, 5))[:3]
    logits = model(tokens).logits.log_softmax(-1)
    terms = [-logits[b, t, tokens[b, t - 1]].item() for b in range(3) for t in range(1, 5)]
    assert order.loss_of(model, tokens).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    right = [logits[:, t].argmax(-1).eq(tokens[:, t - 1]).float().mean().item() for t in range(1, 5)]
    assert order.by_place(model, tokens) == pytest.approx(right)


def test_lab_runs(monkeypatch):
    monkeypatch.setattr(order, "STEPS", (2,))
    outcome = order.run(argparse.Namespace(seeds=1, quick=True))
    exact, trained = outcome.tables
    assert [row[0] for row in exact.rows] == ["none", "sinusoidal"] and len(trained.rows) == 6
    weights = [row[2] for row in trained.rows]
    assert max(weights) < 1.05 * min(weights)
    assert "Without positions a permutation" in outcome.conclusion
