"""The benchmarks still run, on sizes of which the figures say nothing."""

import sys

import pytest

from benchmarks import batches, compiled, decoding, evaluation, look, loss, step, window

SCRIPTS = [batches, decoding, evaluation, look, loss, step, window, pytest.param(compiled, marks=pytest.mark.slow)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_benchmark_prints_its_table(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script.__name__, "--smoke"])
    script.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) >= 3 and len({line.count("|") for line in lines}) == 1
