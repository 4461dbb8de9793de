"""Examples: ids that decode to the text, blocks that cover the stream, rows that are too long."""

import itertools
import logging

import numpy as np
import pytest

import tokenizer as tokenizers
from train.data.encoding import encode
from train.data.examples import Blocks
from train.data.splits import load_splits
from train.errors import UserError
from train.model import build
from train.settings.recipe import Recipe
from train.settings.sections import BatchSection, DataSection, ModelSection
from train.tasks import TASKS

LINES = ["a fat cat", "", "sat on </s> the mat", "and <mask> that was that", "<unk>"]


def make(task: str, tmp_path, content: str, batch=None, model=None, length=None, **data):
    """Return split, character tokenizer and recipe over a file."""
    (tmp_path / "x.tsv").write_text(content, encoding="utf-8")
    data = {"root": str(tmp_path), "train": "x.tsv"} | data
    recipe = Recipe(
        name="e",
        task=task,
        data=DataSection(**data),
        batch=BatchSection(**(batch or {})),
        model=ModelSection(**(model or {})),
    )
    template = TASKS[task].template
    made = tokenizers.build("char", [content], 99, template, show_progress=False, model_max_length=length)
    return load_splits(recipe), made, recipe


def test_translation_rows_decode_to_the_text_and_end_with_one_end_token(tmp_path):
    pairs = [("a cat", "eine Katze"), ("x </s> y", "<s>z</s>")]
    content = "".join(f"{a}\t{b}\n" for a, b in pairs)
    splits, tokenizer, recipe = make("translation", tmp_path, content, source_column=0, target_column=1)
    examples = encode(splits["train"], tokenizer, recipe)
    assert len(examples) == 2
    for index, pair in enumerate(pairs):
        row = examples.row(0, index)
        assert row["row"] == index
        for name, text in zip(("input_ids", "labels"), pair, strict=True):
            assert row[name][-1] == tokenizer.eos_token_id
            assert tokenizer.decode(row[name][:-1]) == text
            assert not set(row[name][:-1].tolist()) & set(tokenizer.all_special_ids)
    assert examples.lengths(3).tolist() == [[len(a) + 1, len(b) + 1] for a, b in pairs]


def test_classification_rows_stand_between_cls_and_sep(tmp_path):
    splits, tokenizer, recipe = make(
        "classification", tmp_path, "no\t<mask>!\nyes\t\nno\tz\n", text_column=1, label_column=0
    )
    examples = encode(splits["train"], tokenizer, recipe)
    rows = [examples.row(0, index) for index in range(3)]
    assert [row["labels"] for row in rows] == [0, 1, 0]
    for row, text in zip(rows, ["<mask>!", "", "z"], strict=True):
        first, *inner, last = row["input_ids"].tolist()
        assert (first, last) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert tokenizer.decode(inner) == text
        assert tokenizer.mask_token_id not in inner


@pytest.mark.parametrize("block_size", [1, 3, 7, 64])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_causal_blocks_predict_every_token_but_the_first_exactly_once(tmp_path, block_size, epoch):
    content = "\n".join(LINES)
    splits, tokenizer, recipe = make("causal", tmp_path, content, batch={"block_size": block_size}, format="text")
    examples = encode(splits["train"], tokenizer, recipe)
    lengths = examples.lengths(epoch)[:, 0]
    rows = [examples.row(epoch, index)["input_ids"].tolist() for index in range(len(lengths))]
    stream = [rows[0][0]] + [token for row in rows for token in row[1:]]
    text = [tokenizer.eos_token if token == tokenizer.eos_token_id else tokenizer.decode([token]) for token in stream]
    assert "".join(text) == "".join(f"{line}</s>" for line in LINES)
    assert stream.count(tokenizer.eos_token_id) == len(LINES)  # the one that is typed in a line is text
    assert [len(row) - 1 for row in rows] == lengths.tolist()
    assert max(lengths) <= block_size
    for before, after in itertools.pairwise(rows):
        assert before[-1] == after[0]


def test_a_whole_file_is_one_stream_without_end_tokens(tmp_path):
    content = "one\n\ntwo\r\n"
    splits, tokenizer, recipe = make(
        "causal", tmp_path, content, batch={"block_size": 90}, format="text", text_unit="file"
    )
    row = encode(splits["train"], tokenizer, recipe).row(0, 0)
    assert tokenizer.decode(row["input_ids"]) == content
    assert tokenizer.eos_token_id not in row["input_ids"]


@pytest.mark.parametrize(("content", "unit"), [("red fox\nred hen\n", "line"), ("a\nb\n", "file"), ("ab", "file")])
def test_an_empty_prompt_starts_from_what_stands_before_a_text(tmp_path, content, unit):
    """Lines begin behind an end token, those of a whole file behind a line end; a `<s>` is in no training text."""
    splits, made, recipe = make("causal", tmp_path, content, model={"preset": "tiny"}, format="text", text_unit=unit)
    made.save_pretrained(tmp_path / "given")
    recipe.tokenizer.path = str(tmp_path / "given")
    build.make_tokenizer(recipe, splits["train"], tmp_path / "tokenizer")
    tokenizer = build.load_tokenizer(tmp_path / "tokenizer")
    assert "<s>" not in tokenizer.decode(encode(splits["train"], tokenizer, recipe).row(0, 0)["input_ids"])
    assert tokenizer.decode([2, 3, 7], skip_special_tokens=True) == tokenizer.decode([7])
    stream = encode(splits["train"], tokenizer, recipe).row(0, 0)["input_ids"].tolist()
    firsts = {tokenizer(line)["input_ids"][0] for line in content.splitlines()}
    before = {
        a for a, b in itertools.pairwise(stream) if b in firsts and tokenizer.decode([a]).strip() in ("", "</s>")
    }
    model = build.make_model(recipe, tokenizer)
    starts = {model.config.bos_token_id, model.generation_config.bos_token_id}
    assert starts == (before or {None})
    assert tokenizer.bos_token_id == (tokenizer.eos_token_id if unit == "line" else None)

    model.generation_config.bos_token_id = model.config.bos_token_id = 2
    model.save_pretrained(tmp_path / "start")  # another model's ids do not stay
    recipe.model = ModelSection(init_from=str(tmp_path / "start"))
    again = build.make_model(recipe, tokenizer)
    assert {again.config.bos_token_id, again.generation_config.bos_token_id} == starts


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_masked_blocks_hold_every_token_once_between_cls_and_sep(tmp_path, epoch):
    splits, tokenizer, recipe = make("masked", tmp_path, "\n".join(LINES), batch={"block_size": 10}, format="text")
    examples = encode(splits["train"], tokenizer, recipe)
    rows = [examples.row(epoch, index)["input_ids"] for index in range(len(examples.lengths(epoch)))]
    assert {(row[0], row[-1]) for row in rows} == {(tokenizer.cls_token_id, tokenizer.sep_token_id)}
    assert tokenizer.decode(np.concatenate([row[1:-1] for row in rows])) == "".join(LINES)
    assert [len(row) for row in rows] == examples.lengths(epoch)[:, 0].tolist()
    assert max(map(len, rows)) <= 12


def test_blocks_begin_at_the_start_in_epoch_0_and_elsewhere_later():
    blocks = Blocks(np.arange(100), block_size=10, seed=3, overlap=1)
    assert blocks.lengths(0)[:, 0].tolist() == [10] * 9 + [9]
    starts = {int(blocks.row(epoch, 1)["input_ids"][0]) for epoch in range(20)}
    assert len(starts) > 5
    again = Blocks(np.arange(100), block_size=10, seed=3, overlap=1)
    assert all((blocks.row(epoch, 2)["input_ids"] == again.row(epoch, 2)["input_ids"]).all() for epoch in (4, 1, 9))


def test_block_size_defaults_to_what_the_model_holds(tmp_path):
    splits, tokenizer, recipe = make(
        "causal", tmp_path, "x" * 100, model={"max_position_embeddings": 33}, format="text"
    )
    assert encode(splits["train"], tokenizer, recipe).lengths(0)[0, 0] == 32
    recipe.batch.block_size = 33
    with pytest.raises(UserError, match=r"batch.block_size: 33 must be in 1..32, as max_position_embeddings is 33"):
        encode(splits["train"], tokenizer, recipe)


@pytest.mark.parametrize(("task", "most"), [("causal", 16), ("masked", 14)])
def test_a_block_fits_the_token_budget(tmp_path, task, most):
    splits, tokenizer, recipe = make(task, tmp_path, "x" * 100, batch={"max_tokens": 16}, format="text")
    examples = encode(splits["train"], tokenizer, recipe)
    assert examples.lengths(0).max() == 16
    recipe.batch.block_size = most + 1
    with pytest.raises(UserError, match=rf"batch.block_size: {most + 1} .* batch.max_tokens is 16"):
        encode(splits["train"], tokenizer, recipe)


def test_too_little_text_for_a_stream(tmp_path):
    splits, tokenizer, recipe = make("causal", tmp_path, "x", format="text", text_unit="file")
    with pytest.raises(UserError, match=r"x.tsv.*1 token.*at least 2"):
        encode(splits["train"], tokenizer, recipe)


PAIRS = "ab\tc\nabcdefgh\ti\nj\tklmnopqrst\nu\tv\n"  # with the end token 3, 9 and 2, 11 tokens, ...


def too_long(tmp_path, **keywords):
    """Return split, tokenizer and recipe with rows 2 and 3 longer than 6."""
    return make("translation", tmp_path, PAIRS, source_column=0, target_column=1, **keywords)


@pytest.mark.parametrize(
    ("keywords", "rule"),
    [
        ({"model": {"max_position_embeddings": 6}}, "max_position_embeddings 6"),
        ({"length": 6}, "model_max_length 6"),
        ({"batch": {"max_tokens": 6}}, "batch.max_tokens 6"),
    ],
)
def test_a_row_too_long_is_named_by_file_line_length_and_limit(tmp_path, keywords, rule):
    splits, tokenizer, recipe = too_long(tmp_path, **keywords)
    with pytest.raises(UserError) as caught:
        encode(splits["train"], tokenizer, recipe)
    assert all(word in str(caught.value) for word in ("x.tsv:2", "9 tokens", rule, "data.too_long"))
    assert str(caught.value).endswith("; 2 of 4 train rows are longer, the longest has 11 tokens")


def test_a_row_too_long_can_be_left_out(tmp_path, caplog):
    splits, tokenizer, recipe = too_long(tmp_path, length=6, too_long="skip")
    with caplog.at_level(logging.WARNING):
        examples = encode(splits["train"], tokenizer, recipe)
    assert [tokenizer.decode(examples.row(0, i)["labels"][:-1]) for i in range(len(examples))] == ["c", "v"]
    assert "left out 2 of 4" in caplog.text


@pytest.mark.parametrize(("name", "policy"), [("train", "truncate"), ("test", "truncate"), ("test", "skip")])
def test_a_row_too_long_can_be_cut_and_evaluation_never_drops_one(tmp_path, name, policy):
    splits, tokenizer, recipe = too_long(tmp_path, length=6, too_long=policy, test="x.tsv")
    examples = encode(splits[name], tokenizer, recipe)
    texts = [tokenizer.decode(examples.row(0, i)[side][:-1]) for i in range(4) for side in ("input_ids", "labels")]
    assert texts == ["ab", "c", "abcde", "i", "j", "klmno", "u", "v"]
    assert {examples.row(0, i)["labels"][-1] for i in range(4)} == {tokenizer.eos_token_id}


def test_evaluation_ignores_the_training_budget(tmp_path):
    splits, tokenizer, recipe = too_long(tmp_path, batch={"max_tokens": 6}, test="x.tsv")
    assert encode(splits["test"], tokenizer, recipe).lengths(0).max() == 11
