"""What a log line says of time and arithmetic, and how warnings are written."""

import json

import pytest

from train.cost import flops
from train.run import loop, tracking


def lines_of(run, kind):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == kind]


def test_every_log_line_says_how_much_is_left(write_recipe, fit, capsys):
    run = fit(write_recipe(), "--loop.max_steps", "14", "--loop.log_every", "2")
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step=")]
    assert [" eta=" in line for line in shown] == [False] * 3 + [True] * 5  # not before the slow first steps
    left = [line["eta_seconds"] for line in lines_of(run, "train") if "eta_seconds" in line]
    assert len(left) == 5
    assert all(seconds > 0 for seconds in left[:-1])
    assert left[-1] == 0
    assert shown[-1].endswith("eta=0s")


def test_flops_per_second_are_those_of_the_real_tokens(write_recipe, fit, capsys, monkeypatch):
    reports, original = [], loop.train_step

    def train_step(run, delivery, request):
        expected = sum(flops.of_batch(run.bare.config, "translation", batch.inputs) for batch in delivery.micro)
        reports.append((original(run, delivery, request), expected))
        return reports[-1][0]

    monkeypatch.setattr(loop, "train_step", train_step)
    monkeypatch.setattr(tracking, "_peak", lambda *arguments: 4e9)
    run = fit(write_recipe(), "--loop.accumulate", "2")
    assert all(report.flops == expected > 0 for report, expected in reports)
    for line, (report, _) in zip(lines_of(run, "train"), reports, strict=True):
        per_token = report.flops / report.real_tokens
        assert line["flops_per_second"] == pytest.approx(per_token * line["tokens_per_second"])
        assert line["mfu"] == pytest.approx(line["flops_per_second"] / 4e9)
    assert "MFU=" in capsys.readouterr().out


def test_a_cpu_has_no_utilisation(write_recipe, fit, capsys):
    run = fit(write_recipe(), "--loop.max_steps", "1")
    assert "mfu" not in lines_of(run, "train")[0]
    shown = capsys.readouterr().out
    assert "TFLOP/s=" in shown
    assert "MFU" not in shown


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0s"), (29, "29s"), (90, "2min"), (3900, "1h05min"), (86_400 * 2 + 3600, "2d01h")]
)
def test_a_duration_is_one_word(seconds, words):
    assert tracking._duration(seconds) == words
