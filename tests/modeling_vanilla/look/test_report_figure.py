# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The picture of a report: a point for each head, where its figures say."""

import math
import re
from pathlib import Path

import pytest

from modeling_vanilla.look.report import Figures, Report
from modeling_vanilla.look.report_figure import check, draw

pytest.importorskip("matplotlib")
HEADS = [
    ("encoder", 0.9, 1.0),
    ("encoder", 0.8, 0.9),
    ("decoder", 0.2, 0.1),
    ("cross", 0.1, 0.95),
    ("cross", 0.3, 0.7),
]


@pytest.fixture
def report():
    heads = [
        Figures(kind, 1, number, entropy, effects={"zero": exact - 1}, exact={"zero": exact})
        for number, (kind, entropy, exact) in enumerate(HEADS)
    ]
    heads[3].hits = 0.99
    return Report(20, "nats", 1.0, 7, heads)


def test_each_kind_has_its_points_and_the_heads_of_note_their_names(report, tmp_path):
    path = tmp_path / "report.svg"
    draw(report, path)
    drawn = path.read_text("utf-8")
    points = re.findall(r'<use xlink:href="#\w+" x="([\d.]+)" y="([\d.]+)" style="fill: #', drawn)
    lowest = sorted((-float(y), float(x)) for x, y in points)[: len(HEADS)]  # the legend stands above
    lying = sorted((x, y) for y, x in lowest)
    expected = sorted((1 - entropy, exact) for _, entropy, exact in HEADS)
    for axis in (0, 1):  # sharp heads to the right, those without which most stays right above
        order = [sorted(values, key=lambda value: value[axis]) for values in (lying, expected)]
        assert [lying.index(one) for one in order[0]] == [expected.index(one) for one in order[1]]
    for name in ("decoder 1.2", "cross 1.3, gold 99%", "cross 1.4"):
        assert f"<!-- {name} -->" in drawn


@pytest.mark.parametrize("effect", ["nats", "KL", "states"])
@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_other_effects_and_endings(report, effect, ending, tmp_path):
    report.effect, report.exact, report.heads[0].entropy = effect, None, math.nan
    draw(report, tmp_path / f"report.{ending}")
    assert (tmp_path / f"report.{ending}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("path", "rule"), [("a.jpg", "must end in .svg, .png, .pdf"), ("none/a.svg", "its folder must exist")]
)
def test_a_name_that_cannot_be(path, rule, tmp_path):
    with pytest.raises(ValueError, match=rule):
        check(tmp_path / path)


def test_the_committed_picture_is_small():
    assert 0 < (Path(__file__).parents[3] / "docs" / "report.svg").stat().st_size < 100_000
