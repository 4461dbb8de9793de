"""Packed rows: every sequence once, within the row, and the loss and gradient of separate sequences."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest
import torch

import tokenizer as tokenizers
from modeling_vanilla.losses import IGNORE
from train.data import encoding, packing, training
from train.data.collate import Collator
from train.data.splits import load_splits
from train.errors import UserError
from train.model import build
from train.processes import signals
from train.run import checkpoint, loop
from train.settings.reading import load_recipe
from train.settings.recipe import Recipe
from train.settings.sections import BatchSection, DataSection, ModelSection
from train.tasks import TASKS

TOKEN_TASKS = ("translation", "causal", "masked")


@pytest.mark.parametrize("seed", range(30))
def test_every_sequence_has_a_row_that_holds_it(seed):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, draw.integers(2, 60), (int(draw.integers(1, 300)), int(draw.integers(1, 3))))
    capacity = int(lengths.max()) + int(draw.integers(0, 100))
    rows = packing.fill_rows(lengths, capacity, draw.permutation(len(lengths)))
    totals = np.zeros((rows.max() + 1, lengths.shape[1]), dtype=int)
    np.add.at(totals, rows, lengths)
    assert totals.max() <= capacity
    assert set(rows) == set(range(rows.max() + 1))


def test_little_of_a_row_is_padding():
    draw = np.random.default_rng(0)
    source = np.clip(draw.lognormal(2.5, 0.5, 4000), 3, 60).astype(int)
    lengths = np.stack([source, np.maximum(2, source + draw.integers(-4, 5, 4000))], axis=1)
    rows = packing.fill_rows(lengths, 128, draw.permutation(4000))
    assert lengths.sum() / ((rows.max() + 1) * 2 * 128) > 0.94


def make(task: str, tmp_path, **batch):
    """Return split, character tokenizer and recipe over lines of very different lengths; some are empty."""
    draw = random.Random(3)
    words = ["".join(draw.choices("abcdefg", k=draw.choice([1, 2, 3, 9, 25]))) for _ in range(40)]
    if task == "translation":
        columns = {"source_column": 0, "target_column": 1}
        content = "".join(f"{one}\t{two[::-1]}\n" for one, two in zip(words, [*words[1:], "a"], strict=True))
    else:
        columns, content = (
            {},
            "\n".join(itertools.chain(*((word, "") if len(word) == 2 else (word,) for word in words))),
        )
    name = "x.tsv" if columns else "x.txt"
    (tmp_path / name).write_text(content, encoding="utf-8")
    recipe = Recipe(
        name="p",
        task=task,
        data=DataSection(root=str(tmp_path), train=name, **columns),
        batch=BatchSection(**{"packing": True, "max_tokens": 160, "block_size": 40} | batch),
        model=ModelSection(preset="tiny", dropout=0.0, attention_dropout=0.0, activation_dropout=0.0),
    )
    template = TASKS[task].template
    made = tokenizers.build("char", list("abcdefg"), 99, template, show_progress=False, min_frequency=1)
    return load_splits(recipe)["train"], made, recipe


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("task", TOKEN_TASKS)
def test_loss_and_gradient_are_those_of_separate_sequences(task, positions, kernel, tmp_path):
    split, tokenizer, recipe = make(task, tmp_path)
    recipe.model.attn_implementation, recipe.model.positions = kernel, positions
    recipe.model.max_position_embeddings = 30  # a packed row may be longer than the table of positions
    torch.manual_seed(0)
    model = build.make_model(recipe, tokenizer).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    packed = training.encode(split, tokenizer, recipe)
    collate, epoch = Collator(task, tokenizer, recipe), 2
    rows = [packed.row(epoch, index) for index in range(len(packed.lengths(epoch)))]
    assert max(len(row["parts"]) for row in rows) > 3
    found = []
    for groups in (
        [rows[i : i + 3] for i in range(0, len(rows), 3)],
        [[part] for row in rows for part in row["parts"]],
    ):
        model.zero_grad()
        batches = [collate(group, epoch) for group in groups]
        targets = sum(batch.targets for batch in batches)
        total = 0.0
        for batch in batches:
            loss = model(**batch.inputs, num_items_in_batch=torch.tensor(targets)).loss
            loss.backward()
            total += loss.item()
        found.append((total, targets, [parameter.grad.clone() for parameter in model.parameters()]))
    (one, one_targets, one_gradients), (two, two_targets, two_gradients) = found
    assert one_targets == two_targets > 40
    assert one == pytest.approx(two, rel=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in two_gradients)
    for mine, expected in zip(one_gradients, two_gradients, strict=True):
        assert float((mine - expected).abs().max()) <= 1e-6 * largest


@pytest.mark.parametrize("task", TOKEN_TASKS)
def test_every_row_keeps_its_length_and_changes_with_the_epoch(task, tmp_path):
    split, tokenizer, recipe = make(task, tmp_path)
    packed = training.encode(split, tokenizer, recipe)
    for epoch in (0, 1):
        lengths = packed.lengths(epoch)
        rows = [packed.row(epoch, index) for index in range(len(lengths))]
        assert lengths.max() <= 40
        for name, side in zip(packed.sides, lengths.T, strict=True):
            assert [sum(len(part[name]) for part in row["parts"]) for row in rows] == side.tolist()
        numbers = sorted(part["row"] for row in rows for part in row["parts"])
        assert numbers == list(range(len(packed.sequences)))
        again = training.encode(split, tokenizer, recipe)
        assert [part["row"] for part in again.row(epoch, 0)["parts"]] == [part["row"] for part in rows[0]["parts"]]
    first, second = ({frozenset(p["row"] for p in packed.row(e, i)["parts"]) for i in range(5)} for e in (0, 1))
    assert first != second


@pytest.mark.parametrize("block_size", [2, 5, 40])
def test_packed_lines_predict_the_tokens_of_the_stream(tmp_path, block_size):
    split, tokenizer, recipe = make("causal", tmp_path, block_size=block_size)
    rows = training.encode(split, tokenizer, recipe)
    recipe.batch.packing = False
    stream = encoding.encode(split, tokenizer, recipe).stream
    collate, predicted = Collator("causal", tokenizer, recipe), Counter()
    for index in range(len(rows)):
        labels = collate([rows.row(0, index)], 0).inputs["labels"]
        predicted.update(labels[labels != IGNORE].tolist())
    assert predicted == Counter(stream.tolist())


@pytest.mark.parametrize("packing", [True, False])
def test_a_tokenizer_without_an_end_token_is_one_line(tmp_path, packing):
    split, tokenizer, recipe = make("causal", tmp_path, block_size=40)
    recipe.batch.packing, tokenizer.eos_token = packing, None
    with pytest.raises(UserError, match=r"the tokenizer has no end token \(eos_token\)"):
        encoding.encode(split, tokenizer, recipe)


@pytest.mark.parametrize("task", ["causal", "masked"])
@pytest.mark.parametrize("block_size", [5, 40])
def test_an_evaluation_reads_the_documents_that_training_packs(tmp_path, task, block_size):
    split, tokenizer, recipe = make(task, tmp_path, block_size=block_size)
    trained, measured = training.encode(split, tokenizer, recipe).sequences, encoding.encode(split, tokenizer, recipe)
    assert len(measured) == len(trained) >= len([line for line in split["text"] if line])
    for index in range(len(trained)):
        assert measured.row(0, index)["input_ids"].tolist() == trained.row(0, index)["input_ids"].tolist()


@pytest.mark.parametrize("block_size", [3, 8, 40])
def test_packed_lines_of_a_masked_model_hold_every_token_once(tmp_path, block_size):
    split, tokenizer, recipe = make("masked", tmp_path, block_size=block_size)
    packed = training.encode(split, tokenizer, recipe)
    parts = [packed.sequences.row(0, index)["input_ids"] for index in range(len(packed.sequences))]
    assert {(part[0], part[-1]) for part in parts} == {(tokenizer.cls_token_id, tokenizer.sep_token_id)}
    assert tokenizer.decode(np.concatenate([part[1:-1] for part in parts])) == "".join(split["text"])
    assert min(map(len, parts)) > 2


def test_sizes_count_both_sides_and_the_padding(tmp_path):
    split, tokenizer, recipe = make("translation", tmp_path)
    packed = training.encode(split, tokenizer, recipe)
    batch = Collator("translation", tokenizer, recipe)([packed.row(0, 0), packed.row(0, 1)], 0)
    lengths = packed.lengths(0)[:2]
    assert (batch.real_tokens, batch.padded_tokens) == (lengths.sum(), 2 * lengths.max(axis=0).sum())
    assert batch.targets == lengths[:, 1].sum()


def test_a_filler_counts_for_nothing(tmp_path):
    split, tokenizer, recipe = make("translation", tmp_path)
    row = training.encode(split, tokenizer, recipe).row(0, 0)
    filler = Collator("translation", tokenizer, recipe).filler(row)
    assert (filler.targets, filler.real_tokens) == (0, 0)
    assert set(filler.inputs["labels"].flatten().tolist()) == {IGNORE}


@pytest.mark.parametrize("task", TOKEN_TASKS)
def test_a_packed_run_goes_on_bitwise(write_recipe, fit, monkeypatch, task):
    columns = {"source_column": 0, "target_column": 1}
    if task != "translation":
        columns = {"source_column": None, "target_column": None, "text_column": 0}
    options = {"task": task, "data": columns, "batch": {"max_tokens": 64, "packing": True, "block_size": 32}}
    whole = fit(write_recipe("whole", **options), "--loop.max_steps", "9", "--loop.accumulate", "2")
    again = write_recipe("again", **options)
    original = loop.train_step

    def train_step(run, delivery, request):
        return original(run, delivery, 15 if run.progress.step == 4 else request)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", train_step)
        with pytest.raises(signals.Stopped):
            fit(again, "--loop.max_steps", "9", "--loop.accumulate", "2")
    assert checkpoint.newest(whole.parent / "again").name == "step-00000005"
    run = fit(again, "--loop.max_steps", "9", "--loop.accumulate", "2")
    one, two = ((folder / "final" / "model.safetensors").read_bytes() for folder in (whole, run))
    assert one == two


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"task": "classification"}, "batch.packing: true must be false for the task classification"),
        ({"model": {"attn_implementation": "flex_attention"}}, "needs model.attn_implementation eager or sdpa"),
        ({"task": "masked", "data": {"text_unit": "file"}}, "data.text_unit is file"),
    ],
)
def test_what_cannot_be_packed_is_refused(write_recipe, sections, words):
    with pytest.raises(UserError, match=words):
        load_recipe(write_recipe(batch={"packing": True}, **sections))


@pytest.mark.parametrize(
    ("model", "batch", "words"),
    [
        ({"attention_window": 4}, {}, "model.attention_window: 4: batch.packing"),
        ({}, {"block_size": 200}, "batch.block_size: 200 must be at most batch.max_tokens, 160"),
        ({}, {"block_size": 9}, "26 tokens, must be at most batch.block_size 9"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, model, batch, words):
    split, tokenizer, recipe = make("translation", tmp_path, **batch)
    for name, value in model.items():
        setattr(recipe.model, name, value)
    with pytest.raises(UserError, match=words):
        training.encode(split, tokenizer, recipe)
