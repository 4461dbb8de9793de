"""A token goes through the network alone as among others; the formula's shares are those that torch counts."""

import pytest

from lab import ffn


def test_a_token_goes_through_the_network_alone():
    through_network, through_attention = ffn.alone_and_among(12, 1)
    assert through_network < 1e-5
    assert through_attention > 0.1


@pytest.mark.parametrize(("length", "width", "inner"), [(50, 512, 2048), (2048, 512, 2048), (33, 16, 40)])
def test_the_formula_is_what_torch_counts(length, width, inner):
    formula, counted = (count(length, width, inner) for count in (ffn.shares_by_formula, ffn.shares_counted))
    assert formula == pytest.approx(counted, rel=1e-9)
    assert sum(formula.values()) == pytest.approx(1)


def test_shares_of_base():
    """At n = d_model the two products are 4 n d of 4 n d + 8 d d + 16 d d, by table 1."""
    assert ffn.shares_by_formula(512) == pytest.approx(dict(zip(ffn.PARTS, (8 / 28, 4 / 28, 16 / 28))))


def test_ffn_runs(smoke, monkeypatch):
    monkeypatch.setattr(ffn, "STEPS", {True: 8})
    outcome = smoke(ffn, "ffn")
    assert len(outcome.tables[0].rows) == 8
