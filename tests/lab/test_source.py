"""The source taken away, exchanged, hidden: each does what its name says."""

import argparse
import math
from datetime import date, timedelta

import pytest
import torch

from lab import source as lab
from lab.made import END, PAD
from lab.rungs import Transformer, config_of, fitted
from train.data.dates import ENGLISH_DATES

V = 13


@pytest.fixture(scope="module")
def translator() -> Transformer:
    torch.manual_seed(0)
    return Transformer(config_of(V, 8)).double().eval()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    source, target = torch.randint(4, V, (3, 6)), torch.randint(4, V, (3, 5))
    source[1, 4:], target[2, 3:] = PAD, PAD
    return source, target


def test_exchanged_sources_are_those_of_other_rows(batch):
    source, _ = batch
    other = lab.exchanged(source)
    assert all(not torch.equal(a, b) for a, b in zip(source, other))
    assert sorted(map(tuple, other.tolist())) == sorted(map(tuple, source.tolist()))
    assert lab.emptied(source).tolist() == [[END]] * 3


def test_a_blind_translator_gives_the_same_whatever_the_source(translator, batch):
    source, target = batch
    blind = lab.blind(translator, source, target)
    assert torch.allclose(blind, lab.blind(translator, lab.exchanged(source), target))
    assert not torch.allclose(blind, translator(source, target))


def test_a_blind_translator_adds_a_context_of_zero(translator, batch):
    """Its cross-attention leaves nothing but the bias of the output projection."""
    source, target = batch
    attention, seen = translator.translator.model.decoder.layers[0].cross_attn, []
    hook = attention.register_forward_hook(lambda module, arguments, output: seen.append(output[0]))
    lab.blind(translator, source, target)
    hook.remove()
    assert torch.allclose(seen[0], attention.out_proj.bias.expand_as(seen[0]))


def test_the_writer_does_not_look_at_the_source(batch):
    source, target = batch
    torch.manual_seed(0)
    writer = fitted(lab.Writer, V, 8, 64, 4000).eval()
    assert torch.equal(writer(source, target), writer(lab.exchanged(source), target))


def test_nats_are_those_of_the_real_tokens(translator, batch):
    source, target = batch
    rows = lab.nats(translator, batch)
    logits = translator(source, target[:, :-1]).log_softmax(-1)
    for b, length in enumerate((4, 4, 2)):
        expected = [-logits[b, t, target[b, t + 1]].item() for t in range(length)]
        assert rows[b] == pytest.approx(expected)


def test_kinds():
    year, other = ["year"] * 4, "other letters"
    expected = [*year, other, other, "month", other, other, "day", "day", other, other, "weekday", other, other, "end"]
    assert lab.kinds_of("2026년 1월 20일 금요일") == expected
    assert lab.kinds_of("1907년 12월 3일")[-4:] == [other, "day", other, "end"]
    figures = lab.by_kind([[1.0] * 4 + [0.5] * 12 + [0.25]], ["2026년 1월 20일 금요일"])
    assert figures["year"] == 1 and figures["end"] == 0.25 and figures["all"] == pytest.approx((4 + 6 + 0.25) / 17)


def test_entropy_is_that_of_the_answers():
    """Sum over every answer of -p ln p: a day, and its weekday named or not."""
    days, day = 0, date(lab.YEARS[0], 1, 1)
    while day <= date(lab.YEARS[1], 12, 31):
        days, day = days + 1, day + timedelta(days=1)
    named = sum("E" in pattern for pattern in ENGLISH_DATES) / len(ENGLISH_DATES)
    answers = [(1 - named) / days, named / days]
    assert lab.entropy() == pytest.approx(-sum(days * p * math.log(p) for p in answers))


def test_lab_runs(monkeypatch):
    monkeypatch.setattr(lab, "SIZES", ((8, 2),))
    few = lab.dates_of(train=200, test=60)
    monkeypatch.setattr(lab, "dates_of", lambda: few)
    outcome = lab.run(argparse.Namespace(seeds=2, quick=True))
    (table,) = outcome.tables
    assert table.rows[0][0] == "its own source" and len(table.rows) == 5 and len(table.rows[0][1]) == 2
    assert "With its source" in outcome.conclusion
