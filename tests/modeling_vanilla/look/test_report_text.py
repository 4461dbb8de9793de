# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A report as a table and as JSON: every figure where its heading says, and none where there is none."""

import json

import pytest

from modeling_vanilla.look.report import Figures, Report
from modeling_vanilla.look.report_text import as_json, table


@pytest.fixture
def report():
    """Return a report of two heads, one of which has gold, with a figure of its own in each place."""
    effects, exact = {"zero": -0.25, "uniform": 0.5, "permute": -0.0001}, {"zero": 0.9, "uniform": 0.8, "permute": 0.7}
    head = Figures("cross", 1, 2, 0.31, 4.5, effects, exact, 0.11, -0.22, 0.99, 0.88, 0.77)
    other = Figures("encoder", 0, 3, 0.5, effects=dict.fromkeys(effects, 0.0), exact=dict.fromkeys(exact, 1.0))
    rollout, gradients = {"gradient": 0.4, "hits": 0.6}, {"gradient": {"hits": 0.5, "mass": 0.3}}
    return Report(7, "nats", 1.0, 41, [head, other], rollout, gradients, ["a thing: why"], 0.125)


def columns(report) -> list[dict[str, str]]:
    """Read the table back, by its headings, which stand at the right of their columns."""
    lines = table(report).split("\n\n")[0].splitlines()
    names = lines[0].replace("by norm", "by_norm").replace("x ", "x_").split()
    return [dict(zip(names, line.split(), strict=True)) for line in lines[1:]]


def test_every_figure_stands_below_its_heading(report):
    first, second = columns(report)
    assert first == {
        "kind": "cross",
        "layer": "1",
        "head": "2",
        "entropy": "0.31",
        "norm": "4.50",
        "zero": "-0.250",
        "uniform": "+0.500",
        "permute": "0.000",
        "x_zero": "0.900",
        "x_uniform": "0.800",
        "x_permute": "0.700",
        "gradient": "+0.11",
        "integrated": "-0.22",
        "gold": "0.990",
        "weight": "0.880",
        "by_norm": "0.770",
    }
    assert [second[name] for name in ("norm", "gradient", "integrated", "gold", "weight", "by_norm")] == ["-"] * 6


def test_below_the_table(report):
    text = table(report)
    for line in (
        "weight on gold, mean of the heads: cross layer 1 0.880; of equal weights 0.125",
        "attention rollout: gradient 0.400, gold 0.600",
        "gradient x input: gold 0.500, weight 0.300",
        "not measured: a thing: why",
        "7 texts.",
        "of 1.000.",
        "of 41;",
    ):
        assert line in text


def test_a_single_text_has_no_share_and_without_gold_there_are_no_columns_of_it(report):
    report.texts, report.rows_with_gold = 1, 0
    assert not {"x_zero", "gold", "weight", "by_norm"} & columns(report)[0].keys()
    assert "1 text." in table(report)


@pytest.mark.parametrize("effect", ["KL", "states"])
def test_other_effects_have_no_sign(report, effect):
    report.effect, report.exact = effect, None
    assert columns(report)[0]["uniform"] == "0.500"


def test_json(report):
    content = json.loads(as_json(report, "here", "There"))
    assert (content["model"], content["architecture"], content["texts"]) == ("here", "There", 7)
    assert content["heads"][0]["error_rate"] == pytest.approx(0.01)
    assert content["heads"][1]["error_rate"] is None
    assert content["heads"][0]["effects"]["zero"] == -0.25
