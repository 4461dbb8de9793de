# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Figures of a map: against their equations written out, and where the answer is known beforehand."""

import math

import pytest
import torch

from modeling_vanilla.look.measures import (
    alignment,
    entropy,
    rank_correlation,
    rollout,
    rollout_across,
    weighted_norms,
)

H, T, S = 3, 4, 5


def some_weights(*shape) -> torch.Tensor:
    return torch.randn(shape).softmax(-1)


def test_entropy_of_a_sharp_a_uniform_and_a_masked_row():
    hidden = torch.zeros(T, S).bool()
    sharp = torch.eye(S)[:T]
    weights = torch.stack([sharp, torch.full((T, S), 1 / S), torch.full((T, S), 0.0)])
    weights[2, :, :2] = 0.5
    torch.testing.assert_close(entropy(weights, hidden), torch.tensor([0.0, 1.0, math.log(2) / math.log(S)]))
    hidden[:, 2:] = True
    assert entropy(weights[2:], hidden).item() == pytest.approx(1.0)


def test_rows_that_see_one_column_do_not_count():
    weights = torch.ones(T, T).tril() / torch.arange(1, T + 1)[:, None]
    assert entropy(weights[None], torch.ones(T, T).triu(1).bool()).item() == pytest.approx(1.0)
    assert entropy(torch.ones(1, 1, 1), torch.zeros(1, 1).bool()).isnan().all()


def test_norms_of_weighted_values():
    weights, values, projection = some_weights(H, T, S), torch.randn(H, S, 6), torch.randn(H, 6, 7)
    norms = weighted_norms(weights, values, projection)
    for head, row, column in ((0, 1, 2), (2, 3, 4), (1, 0, 0)):
        vector = weights[head, row, column] * values[head, column] @ projection[head]
        torch.testing.assert_close(norms[head, row, column], vector.norm())


def test_rank_correlation_is_spearmans():
    spearmanr = pytest.importorskip("scipy.stats").spearmanr
    first, second = some_weights(H, T, S), torch.rand(T, S)
    second[1, 2] = second[1, 3]  # a tie
    hidden = torch.zeros(T, S).bool()
    hidden[2, 4] = True
    hidden[3, 2:] = True  # two columns: too few
    for head, value in enumerate(rank_correlation(first, second, hidden)):
        rows = [
            spearmanr(first[head, row, : 5 - (row == 2)], second[row, : 5 - (row == 2)]).statistic for row in range(3)
        ]
        assert value.item() == pytest.approx(sum(rows) / 3)


def test_rank_correlation_of_nothing():
    assert rank_correlation(some_weights(H, T, 2), torch.rand(T, 2), torch.zeros(T, 2).bool()).isnan().all()
    assert rank_correlation(torch.full((T, S), 0.2), torch.rand(T, S), torch.zeros(T, S).bool()).isnan()


def test_rollout():
    layers = [some_weights(T, T) for _ in range(3)]
    matrices = [0.5 * weights + 0.5 * torch.eye(T) for weights in layers]
    torch.testing.assert_close(rollout(layers), matrices[2] @ matrices[1] @ matrices[0])
    torch.testing.assert_close(rollout(layers).sum(-1), torch.ones(T))
    torch.testing.assert_close(rollout([torch.eye(T)] * 4), torch.eye(T))


def test_rollout_through_a_decoder_is_that_of_one_stack_over_both_texts():
    """Source and target as one sequence: each sub-layer is a matrix over S + T tokens, and the rule is the paper's."""
    selves, crosses = [some_weights(T, T) for _ in range(2)], [some_weights(T, S) for _ in range(2)]
    source = rollout([some_weights(S, S)])
    flow = torch.block_diag(source, torch.eye(T))
    for own, across in zip(selves, crosses, strict=True):
        for weights, columns in ((own, slice(S, None)), (across, slice(None, S))):
            layer = torch.eye(S + T)
            layer[S:] /= 2
            layer[S:, columns] += weights / 2
            flow = layer @ flow
    torch.testing.assert_close(rollout_across(selves, crosses, source), flow[S:, :S])


def test_alignment():
    weights = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.4, 0.35, 0.25], [0.0, 0.0, 1.0]])
    hits, mass, rows = alignment(torch.stack([weights, weights.flip(-1)]), [{0}, {0, 2}, set(), {1}])
    assert rows == 3
    assert hits.tolist() == [2, 1]
    torch.testing.assert_close(mass, torch.tensor([0.5 + 0.9 + 0.0, 0.2 + 0.9 + 0.0]))
