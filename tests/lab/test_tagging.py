"""The answers are those that the names of the tasks say; the rungs have equal numbers of weights."""

import pytest
import torch

from lab import ffn, heads, roles
from lab.tagging import accuracy, loss_of, matched, rows, tagger
from lab.training import count, train


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("copy", lambda x, t: x[t]),
        ("reverse", lambda x, t: x[len(x) - 1 - t]),
        ("previous", lambda x, t: x[t - 1]),
        ("sum", lambda x, t: (x[t - 1] + x[len(x) - 1 - t]) % 7),
        ("two places", lambda x, t: 7 * x[t - 1] + x[len(x) - 1 - t]),
    ],
)
def test_answers(task, answer):
    digits, answers = next(rows(task, 3, 4, 5, symbols=7))
    assert digits.shape == answers.shape == (4, 5)
    for x, y in zip(digits.tolist(), answers.tolist()):
        assert y == [answer(x, t) for t in range(5)]


def test_the_same_seed_draws_the_same_rows_and_an_unknown_task_is_named():
    first, again, other = (next(rows("copy", seed, 4, 5))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="task: 'shift'; one of copy, reverse, previous"):
        next(rows("shift", 1, 4, 5))


@pytest.mark.parametrize("module", [roles, ffn])
def test_rungs_have_equal_numbers_of_weights(module):
    sizes = {rung: count(module.build(rung, 0)) for rung in module.RUNGS}
    if module is ffn:  # the table says how many are left
        assert sizes.pop("taken away") < min(sizes.values())
    assert max(sizes.values()) < 1.005 * min(sizes.values())


def test_heads_share_the_same_weights():
    assert len({count(tagger(0, num_heads=number, d_model=32)) for number in heads.HEADS}) == 1


def test_matched_finds_the_width():
    assert matched(lambda width: torch.nn.Linear(3, width), 41).out_features == 10  # 4 weights each: 40
    assert matched(lambda width: torch.nn.Linear(3, width), 1).out_features == 1


def test_a_tagger_learns_to_copy():
    model = tagger(0, d_model=32, d_ff=32)
    train(model, rows("copy", 0, 32, 6), loss_of, 60, lr=5e-3, warmup=5)
    assert accuracy(model, next(rows("copy", 9, 100, 6))) > 0.95
