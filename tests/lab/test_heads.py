"""Heads joined times W^O are the sum of head_i W_i^O; a head that is removed adds nothing."""

import pytest
import torch

from lab import date_pairs, heads
from lab.tagging import attention_of, config, rows, tagger
from modeling_vanilla.attention import MultiHeadAttention

B, T, D, H = 2, 7, 20, 4


def test_joined_is_the_sum_and_each_head_reads_every_number():
    torch.manual_seed(2)
    attention, states = MultiHeadAttention(config(d_model=D, num_heads=H), 0), torch.randn(B, T, D)
    joined, summed = heads.joined_and_summed(attention, states)
    torch.testing.assert_close(joined, attention(states)[0])
    torch.testing.assert_close(summed, joined)
    assert heads.numbers_read(attention, states) == [D] * H


def test_a_head_that_is_blind_to_a_number_does_not_read_it():
    attention = MultiHeadAttention(config(d_model=D, num_heads=H), 0)
    with torch.no_grad():
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            projection.weight[:5, 3] = 0  # of the first head's K = 5
    assert heads.numbers_read(attention, torch.randn(B, T, D)) == [D - 1, D, D, D]


@pytest.mark.parametrize("head", [0, 2])
def test_without_a_head_the_others_add_what_they_did(head):
    model = tagger(1, d_model=D, num_heads=H)
    states = torch.randn(B, T, D)
    whole, pruned = attention_of(model), attention_of(heads.without_head(model, head))
    read = []
    hook = whole.out_proj.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    before = whole(states)[0]
    hook.remove()
    added = read[0][..., head * 5 : head * 5 + 5] @ whole.out_proj.weight[:, head * 5 : head * 5 + 5].T
    torch.testing.assert_close(pruned(states)[0], before - added)


def test_a_head_of_zeros_is_the_one_that_is_missed_least():
    models = []
    for seed in (1, 2):
        model = tagger(seed, d_model=32, d_ff=8, vocab_size=6, num_labels=36)
        with torch.no_grad():
            attention_of(model).out_proj.weight[:, 8 * seed : 8 * seed + 8] = 0
        models.append((model, next(rows("two places", seed, 60, 8, 6))))
    (first, every), numbers = heads.missed(models)
    assert numbers[0] == numbers[2] != numbers[1]  # head 1 of the first seed is none
    assert [row[1:] for row in first.rows] == [list(each) for each in numbers]
    for seed in range(2):
        whole, *without = [row[1][seed] for row in every.rows]
        assert without == sorted(without)
        assert whole in without


def test_halves_of_a_pair():
    class Fixed(torch.nn.Module):
        def forward(self, digits):
            answers = torch.tensor([[8, 13, 35]])  # (1, 2), (2, 1), (5, 5)
            return type("Out", (), {"logits": torch.nn.functional.one_hot(answers, 36)})

    truth = torch.tensor([[9, 13, 29]])  # (1, 3), (2, 1), (4, 5)
    assert heads.halves(Fixed(), (truth, truth)) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_dates_are_spelled_out_and_padding_is_no_answer():
    pairs = date_pairs.DatePairs(0, training=6, test=5)
    source, target = pairs.test()
    letters = {at: letter for letter, at in pairs.ids.items()}
    texts = ["".join(letters.get(at, "") for at in row) for row in target.tolist()]
    assert len(texts) == 5
    assert all("년" in text and "월" in text for text in texts)
    assert all((row == date_pairs.END).sum() == 1 for row in (*source, *target))

    torch.manual_seed(0)
    sizes = dict(vocab_size=pairs.vocab_size, num_layers=1, d_model=8, d_ff=8, num_heads=2)
    special = dict(pad_token_id=date_pairs.PAD, decoder_start_token_id=date_pairs.START)
    model = heads.VanillaForConditionalGeneration(config("encoder-decoder", **sizes, **special)).eval()
    wider = [torch.nn.functional.pad(side, (0, 3)) for side in (source, target)]
    assert date_pairs.measured(model, tuple(wider)) == pytest.approx(date_pairs.measured(model, (source, target)))


def test_heads_runs(smoke, monkeypatch):
    monkeypatch.setattr(heads, "STEPS", {True: 2})
    monkeypatch.setattr(heads, "DATE_STEPS", {True: 2})
    monkeypatch.setattr(heads, "DATES", 50)
    monkeypatch.setattr(heads, "times", lambda number: [2.0 * number, 1.0, 0.5 * number])
    outcome = smoke(heads, "heads")
    assert [row[0] for row in outcome.tables[0].rows] == list(heads.HEADS)
    assert outcome.tables[-1].rows[0][1] == 512


def test_times_are_milliseconds_of_three_works():
    assert len(heads.times(2, length=16, width=8, batch=1)) == 3
