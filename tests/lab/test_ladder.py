"""The ladder: a tiny run, and a conclusion that follows its numbers."""

from dataclasses import replace
from pathlib import Path

import pytest

from lab import ladder
from lab.__main__ import main
from lab.rungs import RUNGS
from lab.tasks import task_of


def test_lab_runs(tmp_path, monkeypatch):
    task = task_of("copy", Path())
    few = {group: [(source[:7], target[:7]) for source, target in task.groups[group]] for group in ("4", "20")}
    monkeypatch.setattr(ladder, "task_of", lambda *_: replace(task, groups=few, width=16))
    assert main(["ladder", "--steps", "4", "--task", "copy", "--output", str(tmp_path)]) == 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".md", ".png", ".svg"]
    assert (tmp_path / "ladder-copy.svg").stat().st_size < 100_000
    table = (tmp_path / "ladder-copy.md").read_text()
    assert all(f"| {name} " in table for name in RUNGS)


def test_the_conclusion_follows_the_numbers():
    task = task_of("reverse", Path())
    climbs = {name: ladder.Climb() for name in RUNGS}
    for number, climb in enumerate(climbs.values()):
        climb.scores = {share: {group: [share * number / 10] for group in task.groups} for share in ladder.SHARES}
    text = ladder._conclusion(task, climbs)
    assert "goes from 0.00 to 0.00" in text and "At length 16 the best is four heads with 0.90." in text
    assert "after a quarter of the steps is four heads with 0.23" in text or "with 0.22" in text
    climbs["dot"].scores[1.0]["16"] = climbs["location"].scores[1.0]["16"] = [0.97]
    assert "At length 16 the best is dot and location with 0.97." in ladder._conclusion(task, climbs)
    assert "Without positions the same four heads have 0.80 in place of 0.90." in text


@pytest.mark.parametrize(
    ("words", "rule"),
    [(["--steps", "3"], "--steps: 3: must be at least 4"), (["--task", "multi30k", "--data", "none"], "is missing")],
)
def test_bad_input_is_one_line(words, rule, capsys, tmp_path):
    assert main(["ladder", *words, "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert rule in error and error.count("\n") == 1 and not list(tmp_path.iterdir())
