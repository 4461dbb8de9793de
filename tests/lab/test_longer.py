"""What came after: both attentions against naive double loops, memory against one long segment, counts against formulas."""

import argparse
import gzip
import math
from pathlib import Path

import pytest
import torch

from lab import longer, memory, paths, sparse
from lab.cost_layers import counted
from modeling_vanilla import VanillaConfig
from modeling_vanilla.embeddings import sinusoid_table

SHAKESPEARE = Path("data/tinyshakespeare/input.txt.gz")


def config(**changes):
    settings = dict(variant="decoder", vocab_size=31, d_model=24, d_ff=29, num_heads=4, head_dim=5, num_layers=2)
    settings = VanillaConfig(**(settings | changes))
    settings._attn_implementation = "eager"
    return settings


def random_attention(kind, **arguments):
    torch.manual_seed(0)
    layer = kind(config(), 0, **arguments).double()
    for bias in (layer.content_bias, layer.position_bias):
        torch.nn.init.normal_(bias)
    return layer


@torch.no_grad()
def by_loops(layer, states, before, pattern):
    """Return the output for (B, T, D), score by score, as Dai et al. 2019, sec. 3.3 write it."""
    read = torch.cat([before, states], 1)
    past = before.shape[1]
    table = sinusoid_table(read.shape[1], 24).double()
    context = torch.zeros(*states.shape[:2], 20, dtype=torch.float64)
    for b in range(states.shape[0]):
        for h in range(4):
            head = slice(5 * h, 5 * h + 5)
            for i in range(states.shape[1]):
                query = layer.q_proj(states[b, i])[head]
                keys = [j for j in range(past + i + 1) if pattern is None or pattern[i, j]]
                scores = [
                    (query + layer.content_bias[h, 0]) @ layer.k_proj(read[b, j])[head]
                    + (query + layer.position_bias[h, 0]) @ layer.r_proj(table[past + i - j])[head]
                    for j in keys
                ]
                powers = [math.exp(score / math.sqrt(5)) for score in scores]
                for j, power in zip(keys, powers, strict=True):
                    context[b, i, head] += power / sum(powers) * layer.v_proj(read[b, j])[head]
    return layer.out_proj(context)


@pytest.mark.parametrize("past", [0, 1, 3, 8])
def test_relative_attention_equals_a_double_loop(past):
    layer = random_attention(memory.RelativeAttention)
    states, before = torch.randn(2, 5, 24).double(), torch.randn(2, past, 24).double()
    expected = by_loops(layer, states, before, None)
    torch.testing.assert_close(layer(states, memory=before)[0], expected)


@pytest.mark.parametrize("pattern", ["strided", "fixed"])
def test_sparse_attention_equals_a_double_loop_as_a_mask_and_gathered(pattern):
    layer = random_attention(sparse.SparseAttention, pattern=pattern)
    states = torch.randn(2, 11, 24).double()
    expected = by_loops(layer, states, states[:, :0], sparse.PATTERNS[pattern](11))
    torch.testing.assert_close(layer(states)[0], expected)
    torch.testing.assert_close(layer.gathered(states), expected)


def test_patterns_are_those_of_the_paper():
    stride = paths.root(17)
    assert stride == 4
    for i in range(17):
        near = {j for j in range(17) if max(0, i - stride + 1) <= j <= i}
        column = {j for j in range(i + 1) if (i - j) % stride == 0}
        block = {j for j in range(i + 1) if j // stride == i // stride}
        summaries = {j for j in range(i + 1) if j % stride == stride - 1}
        assert set(paths.strided(17)[i].nonzero().flatten().tolist()) == near | column
        assert set(paths.fixed(17)[i].nonzero().flatten().tolist()) == block | summaries


def test_a_position_sees_nothing_later():
    layer = random_attention(memory.RelativeAttention)
    states, before = torch.randn(1, 6, 24).double(), torch.randn(1, 3, 24).double()
    changed = states.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(layer(states, memory=before)[0][:, :4], layer(changed, memory=before)[0][:, :4])


def test_segments_with_memory_equal_one_long_segment():
    """With relative positions and a memory that holds all, the first layer reads the same keys at the same distances."""
    torch.manual_seed(0)
    writer = longer.Writer(longer.Rung("", 4, memory=100), 31, 24, 2).double()
    ids = torch.randint(31, (2, 12))
    whole, _ = writer(ids)
    memories, pieces = None, []
    for start in range(0, 12, 4):
        logits, memories = writer(ids[:, start : start + 4], memories)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole)


@pytest.mark.parametrize("through", [True, False])
def test_the_gradient_runs_through_the_memory_or_not(through):
    """Within a step the second segment's memory has a gradient only where it is asked for; across steps never."""
    rung = longer.Rung("", 4, memory=4, through=through)
    writer = longer.Writer(rung, 31, 24, 1)
    handed = []

    def model(ids, memories):
        handed.append(memories is not None and memories[0].requires_grad)
        return writer(ids, memories)

    loss = longer.loss_of(rung)
    for anew in (True, False):
        loss(model, (torch.randint(31, (2, 9)), anew)).backward()
    assert handed == [False, through, False, through]


@pytest.mark.parametrize(("length", "past"), [(6, 0), (5, 9)])
def test_counted_work_of_relative_attention(length, past):
    layer = memory.RelativeAttention(config(), 0)
    work = counted(longer.Remembering(layer, torch.randn(1, past, 24)), torch.randn(1, length, 24))
    assert work == memory.operations(config(), length, past)


def test_counted_work_of_sparse_attention_grows_with_the_root():
    layer = sparse.SparseAttention(config(), 0, "strided")
    for length in (16, 64):
        keys = sparse.keys_of(paths.strided(length))[0].shape[1]
        work = counted(longer.Gathered(layer), torch.randn(1, length, 24))
        assert work == memory.operations(config(), length, 0, keys)
        assert keys <= 2 * length**0.5


def test_made_text_repeats_beyond_a_segment():
    ids, held_out, characters = longer.made_text(10_000)
    period = longer.PERIOD
    repeated = (ids[period:] == ids[:-period]).float().mean()
    assert repeated > 0.7  # three of four blocks, and chance
    assert longer.SEGMENT < period <= 2 * longer.SEGMENT
    assert int(held_out.max()) < characters


def test_batches_go_on_where_the_last_ended():
    text = torch.arange(2 * 128 * 3 + 2)
    stream = longer.batches(text, 64, 256)
    (first, anew), (second, later) = next(stream), next(stream)
    assert first.shape == (2, 129)
    assert (anew, later) == (True, False)
    assert torch.equal(first[:, -1], second[:, 0])
    assert next(longer.batches(text, 512, 512))[0].shape == (1, 513)


def test_bits_of_a_writer_that_knows_nothing():
    writer = longer.Writer(longer.RUNGS[2], 16, 24, 1)
    torch.nn.init.zeros_(writer.embed.weight)  # all logits are 0
    assert longer.bits_per_character(writer, torch.randint(16, (3000,))) == pytest.approx(4)


def test_a_text_that_is_missing_names_the_line_that_fetches_it(tmp_path):
    with pytest.raises(ValueError, match="no such file; Tiny Shakespeare comes with: .*curl"):
        longer.read_text(tmp_path / "none.txt")


def test_a_text_is_read_gzipped_or_not_and_is_long_enough(tmp_path):
    text = "to be or not to be " * 3000
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_text(text, "utf-8")
    with gzip.open(packed, "wt", encoding="utf-8") as file:
        file.write(text)
    first, second = longer.read_text(plain), longer.read_text(packed)
    assert torch.equal(first[0], second[0])
    assert first[2] == len(set(text))
    plain.write_text("short", "utf-8")
    with pytest.raises(ValueError, match="5 characters; must be at least 51200"):
        longer.read_text(plain)


@pytest.mark.skipif(not SHAKESPEARE.is_file(), reason=f"needs {SHAKESPEARE}")
def test_tiny_shakespeare_has_65_characters():
    assert longer.read_text(SHAKESPEARE)[2] == 65


def test_the_lab_from_end_to_end(monkeypatch):
    monkeypatch.setattr(longer, "train", lambda model, *rest, **more: None)
    monkeypatch.setattr(longer, "made_text", lambda: (*torch.randint(16, (2, 4200)), 16))
    outcome = longer.run(argparse.Namespace(data=None, quick=True, seeds=1))
    assert len(outcome.tables[0].rows) == len(longer.RUNGS)
    assert [row[2] for row in outcome.tables[2].rows] == ["1.0000"] * 6
    assert "On made text" in outcome.conclusion
