"""What `fit` says of its data before it trains: the first rows as they were read, and what is rarely meant."""

import pytest

from train.__main__ import main
from train.cost import here
from train.data.splits import load_splits
from train.errors import UserError, quoted, short
from train.run import first_look
from train.settings.recipe import Recipe
from train.settings.sections import LoopSection

TABLE = {"source_column": 0, "target_column": 1}
LABELS = {"text_column": 0, "label_column": 1}
PAIRS = "".join(f"source {number}\ttarget {number}\n" for number in range(20))
OTHER = "one\teins\ntwo\tzwei\n"


def doubts(recipe: Recipe) -> list[str]:
    return list(first_look.doubts(recipe, load_splits(recipe)))


def test_the_first_row_of_each_split_is_shown_as_it_was_read(recipe):
    files = {"t.tsv": "안녕\t\u202ehi\n" * 2, "v.tsv": f"{'a' * 81}\tb\n"}
    splits = load_splits(recipe("translation", files, train="t.tsv", validation="v.tsv", **TABLE))
    assert list(first_look.lines(splits)) == [
        r"train data: 2 row(s), the first: source '안녕', target '\u202ehi'",
        f"validation data: 1 row(s), the first: source '{'a' * 80}...', target 'b'",
    ]
    splits = load_splits(recipe("classification", {"c.tsv": "good\tpos\nbad\tneg\n"}, train="c.tsv", **LABELS))
    assert list(first_look.lines(splits)) == ["train data: 2 row(s), the first: text 'good', label 'pos'"]


@pytest.mark.parametrize("limit", [None, 3])
def test_the_same_rows_in_two_splits_are_noticed_by_what_they_hold(recipe, limit):
    files = {"t.tsv": PAIRS, "copy.tsv": PAIRS, "other.tsv": OTHER}
    options = {"train": "t.tsv", "limit_eval": limit, **TABLE}
    (line,) = doubts(recipe("translation", files, validation="copy.tsv", test="other.tsv", **options))
    assert line.startswith(f"train and validation data have the same rows ({limit or 20} compared)")
    assert doubts(recipe("translation", files, validation="other.tsv", **options)) == []


@pytest.mark.parametrize("head", ["source\ttarget", "en\tko", "English\tKorean", "id\tsentence1"])
def test_a_header_that_became_a_row_is_noticed(recipe, head):
    (line,) = doubts(recipe("translation", {"t.tsv": f"{head}\n{PAIRS}"}, train="t.tsv", **TABLE))
    first = head.split("\t")[0]
    assert (
        line == f"train data: the first row looks like a header; name the columns, as in data.source_column: {first}"
    )
    files = {"t.tsv": f"{head}\n{PAIRS}"}
    names = dict(zip(TABLE, head.split("\t"), strict=True))
    assert doubts(recipe("translation", files, train="t.tsv", **names)) == []


def test_the_label_of_a_header_is_noticed(recipe):
    files = {"t.tsv": "text\tlabel\nfine film\tpos\ndull film\tneg\n"}
    assert "looks like a header" in doubts(recipe("classification", files, train="t.tsv", **LABELS))[0]


@pytest.mark.parametrize("row", ["source text\ttarget text", "Hallo\thello", "2024\ttext", "text.\tlabel."])
def test_a_text_is_no_header(recipe, row):
    assert doubts(recipe("translation", {"t.tsv": f"{row}\n{PAIRS}"}, train="t.tsv", **TABLE)) == []


def test_one_column_read_twice_and_columns_that_are_swapped(recipe):
    files = {"t.tsv": PAIRS}
    (line,) = doubts(recipe("translation", files, train="t.tsv", source_column=0, target_column=0))
    assert line.startswith("train data: source and target are the same text in each row")
    files = {"c.tsv": "".join(f"text {number}\t{number % 2}\n" for number in range(30))}
    (line,) = doubts(recipe("classification", files, train="c.tsv", text_column=1, label_column=0))
    assert line == "train data: 30 labels, more than different texts; are text and label swapped?"
    assert doubts(recipe("classification", files, train="c.tsv", **LABELS)) == []


def test_a_warmup_that_an_old_recipe_asks_for_is_named(recipe):
    made = recipe("translation", {"t.tsv": PAIRS}, train="t.tsv", **TABLE)
    made.optim.warmup_steps, made.loop.max_steps = 4000, 200
    assert doubts(made) == ["optim.warmup_steps: 4,000 steps, of 200 in all: the learning rate never reaches its peak"]


def test_fit_says_it_on_the_main_process(write_recipe, fit, capsys, monkeypatch):
    recipe = write_recipe(loop={"max_steps": 1})
    monkeypatch.setattr(here, "doubts", lambda recipe: iter(["loop.precision: slow"]))
    assert main(["fit", str(recipe), "--data.validation", "train.tsv", "--data.train", "[train.tsv]"]) == 0
    shown = capsys.readouterr()
    assert "train data: 61 row(s), the first: source '" in shown.out
    assert "warning: train and validation data have the same rows (61 compared)" in shown.err
    assert "warning: loop.precision: slow" in shown.err.splitlines()


def test_every_quoted_input_of_a_message_is_cut():
    for long in ("x" * 81, "\r" * 1_500_000, "it's " * 99, '"' * 99, "a' b" * 99, "\\" * 99):
        message = str(
            UserError(f"f.tsv:1: {long!r} must be one of the header's columns, not 'a'; see the reader's page")
        )
        assert len(message) < 200
        assert message.startswith("f.tsv:1: ")
        assert message.endswith(
            "... must be one of the header's columns, not 'a'; see the reader's page".removeprefix("...")
        )
    assert quoted("a" * 10**6) == f"'{'a' * 80}...'"
    kept = "'' must be one of the tokenizer's kinds, which are those that its page lists in the second row of a table, 'bpe'"
    assert short(kept) == kept
    assert len(str(UserError(f"no such key: {'k' * 10**6}"))) < 200
    assert len(str(UserError(f"columns {' '.join(map(str, range(10**5)))}"))) < 5000


@pytest.mark.parametrize(
    ("precision", "rate", "warned"), [("bf16", 4e9, True), ("bf16", 2e11, False), ("fp32", 4e9, False)]
)
def test_numbers_that_this_cpu_only_imitates_are_noticed(monkeypatch, precision, rate, warned):
    monkeypatch.setattr(here, "measured", lambda bf16, seconds, side: rate if bf16 else 1e11)
    found = list(here.doubts(Recipe(name="one", task="causal", loop=LoopSection(precision=precision))))
    assert found == ["loop.precision: bf16: this CPU multiplies in it 0.04 times as fast as in fp32"] * warned
