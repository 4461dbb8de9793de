"""What is masked changes nothing, on every kernel; the floor is ln 26; the five lines are torch's causal attention."""

import math

import pytest
import torch
from torch import nn

from lab import mask


@pytest.mark.parametrize("kernel", mask.KERNELS)
def test_is_causal_does_what_it_says(kernel):
    assert mask.leak(kernel, is_causal=True) == 0
    assert mask.leak(kernel, is_causal=False) > 0.01


def test_the_lines_that_are_copied_lack_one():
    q, k, v = torch.randn(3, 2, 3, 7, 5, generator=torch.Generator().manual_seed(1))
    for attend, is_causal in ((mask.four_lines, False), (mask.with_the_missing_line, True)):
        expected = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        torch.testing.assert_close(attend(q, k, v), expected)
    assert mask.leak_of_lines(mask.with_the_missing_line) == 0
    assert mask.leak_of_lines(mask.four_lines) > 0.01


def test_the_floor_is_the_entropy_of_a_letter():
    letters = next(mask.random_letters(0, 4000))[:, 1:]
    shares = letters.flatten().bincount().double() / letters.numel()
    assert len(shares) == 26
    assert -(shares * shares.log()).sum().item() == pytest.approx(mask.FLOOR, abs=1e-3)
    assert mask.FLOOR == pytest.approx(math.log(26)) == pytest.approx(3.258, abs=1e-3)


@pytest.mark.parametrize("hidden", [0, 1, None])
def test_the_twin_of_a_hidden_letter_stands_beside_it(hidden):
    ids, labels = next(mask.twins(2, 50, hidden))
    for row, label in zip(ids.tolist(), labels.tolist()):
        for pair, answers in zip(zip(row[::2], row[1::2]), zip(label[::2], label[1::2])):
            at = pair.index(mask.HIDDEN)
            assert answers[at] == pair[1 - at] != mask.HIDDEN
            assert answers[1 - at] == -100
            assert hidden is None or at == hidden


@pytest.mark.parametrize("is_masked", [True, False])
def test_a_writer_with_its_mask_reads_the_same_at_once_and_in_turn(is_masked):
    model = mask.writer(1, is_masked).eval()
    at_once, in_turn = mask.losses_of_writing(model, next(mask.random_letters(3, 9)))
    assert (abs(at_once - in_turn) < 1e-4) == is_masked


def test_a_filler_that_sees_nothing_to_its_right():
    ids = next(mask.twins(2, 4))[0]
    other = ids.clone()
    other[:, -1] = (ids[:, -1] + 1) % 26
    for sees_both_sides in (True, False):
        model = mask.filler(1, sees_both_sides).eval()
        change = (model(ids).logits - model(other).logits)[:, :-1].abs().max().item()
        assert (change > 1e-3) == sees_both_sides


@pytest.mark.parametrize("is_masked", [True, False])
def test_padding_changes_nothing_with_its_mask(is_masked):
    _, change = mask.padded(mask.filler(1, True).eval(), 2, 5, is_masked)
    assert (change < 1e-5) == is_masked


def test_mask_runs(smoke, monkeypatch):
    monkeypatch.setattr(mask, "STEPS", {True: 10})
    outcome = smoke(mask, "mask")
    assert "masked_fill" in outcome.notes[0]
    assert [row[1] for row in outcome.tables[-1].rows] == [0] * 4
