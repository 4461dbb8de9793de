"""The benchmarks still run, on sizes of which the figures say nothing."""

import sys

import pytest
import torch

from benchmarks import allocation, batches, compiled, decoding, evaluation, look, loss, precision, step, window
from benchmarks.peak import products
from modeling_vanilla.losses import linear_loss, token_loss

SCRIPTS = [batches, decoding, evaluation, look, loss, precision, step, window]
ON_A_GPU = [compiled, decoding, loss, step, window]
"""Those whose work moves to a GPU: here in the type that it has there."""


def case(script, *words, slow=False):
    """Return a parameter: a script and its options."""
    name = "-".join([script.__name__, *words])
    return pytest.param(script, words, id=name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(
    ("script", "words"),
    [*map(case, SCRIPTS), case(allocation, slow=True), case(compiled, slow=True)]
    + [case(script, "--dtype", "bfloat16", slow=True) for script in ON_A_GPU],
)
def test_a_benchmark_prints_its_table(script, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script.__name__, "--smoke", *words])
    script.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) >= 3 and len({line.count("|") for line in lines}) == 1


def test_every_product_counts():
    """Two operations for each pair of numbers, of a head three products: forward, and back to the states and the weight."""
    rows, width, vocabulary = 300, 8, 50
    head = torch.nn.Linear(width, vocabulary)
    states, labels = torch.randn(rows, width, requires_grad=True), torch.randint(vocabulary, (rows,))
    for whole in (lambda: token_loss(head(states), labels), lambda: linear_loss(states, head, labels)):
        assert products(lambda whole=whole: whole()[0].backward()) == 3 * 2 * rows * width * vocabulary
    query = torch.randn(2, 3, 5, 8)
    attention = torch.nn.functional.scaled_dot_product_attention
    assert products(lambda: attention(query, query, query, is_causal=True)) == 2 * 2 * 2 * 3 * 5 * 5 * 8
