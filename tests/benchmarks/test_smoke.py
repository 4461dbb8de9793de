"""The benchmarks still run, on sizes of which the figures say nothing."""

import sys

import pytest

from benchmarks import batches, compiled, decoding, evaluation, look, loss, step, window

SCRIPTS = [batches, decoding, evaluation, look, loss, step, window]
ON_A_GPU = [compiled, decoding, loss, step, window]
"""Those whose work moves to a GPU: here in the type that it has there."""


def case(script, *words, slow=False):
    """Return a parameter: a script and its options."""
    name = "-".join([script.__name__, *words])
    return pytest.param(script, words, id=name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(
    ("script", "words"),
    [*map(case, SCRIPTS), case(compiled, slow=True)]
    + [case(script, "--dtype", "bfloat16", slow=True) for script in ON_A_GPU],
)
def test_a_benchmark_prints_its_table(script, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script.__name__, "--smoke", *words])
    script.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) >= 3 and len({line.count("|") for line in lines}) == 1
