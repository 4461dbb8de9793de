"""Batches: every row once, within the budget, the same on any number of processes, with little padding."""

import itertools
import random

import numpy as np
import pytest

from train.data.batching import micro_batches, plan_epoch
from train.errors import UserError


def cases(count: int):
    """Yield random lengths and bounds that go together."""
    for seed in range(count):
        draw = random.Random(seed)
        rows, sides = draw.choice([1, 2, 3, 7, 50, 400]), draw.choice([1, 2])
        lengths = np.array([[draw.randint(1, draw.choice([5, 40])) for _ in range(sides)] for _ in range(rows)])
        max_tokens = int(lengths.max()) + draw.choice([0, 1, 30, 500])
        yield lengths, max_tokens, draw.choice([None, 1, 6]), seed, draw.randint(0, 9), draw.random() < 0.7


def test_every_row_once_within_the_bounds():
    for lengths, max_tokens, max_rows, seed, epoch, shuffle in cases(120):
        plan = plan_epoch(lengths, max_tokens, max_rows, seed, epoch, shuffle)
        assert sorted(itertools.chain(*plan)) == list(range(len(lengths)))
        for batch in plan:
            assert 1 <= len(batch) <= (max_rows or len(batch))
            assert (len(batch) * lengths[batch].max(axis=0) <= max_tokens).all()


def test_no_batch_could_take_in_its_neighbour_in_the_sorted_order():
    lengths = np.full((100, 1), 7)
    sizes = sorted(len(batch) for batch in plan_epoch(lengths, 7 * 12 + 6, None, 0, 0))
    assert sizes == [4, *[12] * 8]  # 100 = 8 x 12 + 4: full batches but for the last


def test_plan_is_a_pure_function_that_changes_with_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(1, 30, (300, 2))
    plan = plan_epoch(lengths, 200, None, 5, 1)
    assert plan == plan_epoch(lengths.copy(), 200, None, 5, 1)
    assert plan != plan_epoch(lengths, 200, None, 5, 2)
    assert plan != plan_epoch(lengths, 200, None, 6, 1)


def test_rows_of_equal_length_meet_others_in_the_next_epoch():
    lengths = np.full((64, 2), 5)
    first, second = ({frozenset(batch) for batch in plan_epoch(lengths, 40, None, 0, epoch)} for epoch in (0, 1))
    assert first.isdisjoint(second)


def test_batches_come_in_random_order_of_length():
    lengths = np.random.default_rng(0).integers(1, 60, (2000, 1))
    longest = [lengths[batch].max() for batch in plan_epoch(lengths, 240, None, 0, 0)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.25
    ordered = [lengths[batch].max() for batch in plan_epoch(lengths, 240, None, 0, 0, shuffle=False)]
    assert ordered == sorted(ordered)


def test_padding_is_far_less_than_without_sorting():
    generator = np.random.default_rng(1)
    source = generator.integers(3, 60, 5000)
    lengths = np.stack([source, np.maximum(1, source + generator.integers(-6, 7, 5000))], axis=1)

    def padding(batches):
        cells = sum((len(batch) * lengths[batch].max(axis=0)).sum() for batch in batches)
        return 1 - lengths.sum() / cells

    unsorted = [list(batch) for batch in np.array_split(generator.permutation(5000), 150)]
    assert padding(unsorted) > 0.4
    assert padding(plan_epoch(lengths, 2000, None, 0, 0)) < 0.1


def test_pools_hold_every_row_too(monkeypatch):
    monkeypatch.setattr("train.data.batching.POOL_ROWS", 90)
    lengths = np.random.default_rng(2).integers(1, 30, (1000, 2))
    plan = plan_epoch(lengths, 300, None, 0, 0)
    assert sorted(itertools.chain(*plan)) == list(range(1000))
    # Pools go on where the one before ended: no batch holds the long end of one and the short end of the next.
    assert max(np.ptp(lengths[batch, -1]) for batch in plan) < 15


def test_a_row_longer_than_the_budget_names_both():
    with pytest.raises(UserError, match=r"batch.max_tokens: 11 .* 12 tokens of row 3"):
        plan_epoch(np.array([[3, 4], [11, 1], [2, 12]]), 11, None, 0, 0)


def test_no_rows_no_batches():
    assert plan_epoch(np.zeros((0, 2), dtype=int), 10, None, 0, 0) == []


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_ranks_share_a_batch_without_loss_or_overlap(accumulate):
    for rows in (list(range(20, 20 + size)) for size in (1, 2, 3, 7, 24, 31)):
        for world in (1, 2, 4):
            parts = [micro_batches(rows, rank, world, accumulate) for rank in range(world)]
            assert all(len(part) == accumulate for part in parts)
            assert sorted(itertools.chain(*itertools.chain(*parts))) == rows
            sizes = [len(micro) for part in parts for micro in part]
            assert max(sizes) - min(sizes) <= 1


def test_ranks_get_a_second_row_only_when_every_rank_has_one():
    parts = [micro_batches([5, 6, 7], rank, 3, 2) for rank in range(3)]
    assert parts == [[[5], []], [[6], []], [[7], []]]


def test_micro_batches_are_balanced_by_tokens():
    lengths = np.random.default_rng(4).integers(1, 50, (4000, 2))
    for batch in plan_epoch(lengths, 4000, None, 0, 0):
        longest = lengths[batch].max(axis=1)
        tokens = [lengths[part].max(axis=1).sum() for rank in range(4) for part in micro_batches(batch, rank, 4, 1)]
        # Dealt out longest first, the first and the last hand differ by one row at most, the longest.
        assert max(tokens) - min(tokens) <= longest.max()


def test_a_million_rows_take_seconds():
    lengths = np.random.default_rng(5).integers(1, 100, (1_000_000, 2))
    assert sum(map(len, plan_epoch(lengths, 25_000, None, 0, 0))) == 1_000_000
