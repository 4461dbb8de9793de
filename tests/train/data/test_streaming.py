"""Streamed training data: every row once a pass, exact resume, the same on any number of ranks, errors with their place."""

import json
import signal

import datasets
import numpy as np
import pytest

from train.data import sources, steps, streaming, training
from train.data.splits import load_splits
from train.errors import UserError
from train.processes import signals
from train.run import checkpoint
from train.settings import reading


def stop_at(monkeypatch, step):
    """Send this process SIGTERM while the given step is under way."""
    import os

    from train.run import loop

    original = loop.train_step

    def train_step(run, delivery, request):
        if run.progress.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(run, delivery, request)

    monkeypatch.setattr(loop, "train_step", train_step)


def on_disk_hub(tmp_path, content):
    """Write the rows of the recipe's training file as three parquet files, and return the overrides that read them."""
    rows = [line.split("\t") for line in (tmp_path / "data" / "train.tsv").read_text().splitlines()]
    folder = tmp_path / "hub"
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(np.array_split(np.arange(len(rows)), 3)):
        table = {"en": [rows[i][0] for i in part], "de": [rows[i][1] for i in part]}
        datasets.Dataset.from_dict(table).to_parquet(folder / f"train-{number}.parquet")
    (folder / "validation.parquet").write_bytes((folder / "train-0.parquet").read_bytes())
    return [
        *("--data.hub", str(folder), "--data.train", "train", "--data.validation", "validation"),
        *("--data.source_column", "en", "--data.target_column", "de"),
    ]


@pytest.fixture
def load(write_recipe, tmp_path):
    """Return a function that reads a recipe of 61 rows, from a file or from a folder that stands for the Hub."""

    def read(source, *overrides):
        path = write_recipe()
        more = on_disk_hub(tmp_path, path) if source == "hub" else []
        return reading.load_recipe([str(path), *more, *overrides])

    return read


def texts(split):
    """Return the rows of a split."""
    return list(zip(split["source"], split["target"], strict=True))


@pytest.mark.parametrize("source", ["file", "hub"])
@pytest.mark.parametrize("size", [1, 7, 20, 61, 100])
def test_windows_hold_every_row_once_a_pass_in_order(load, source, size):
    made = load(source, "--data.stream_rows", str(size))
    whole = [values for values in sources.good_rows(made, "train")]
    stream, place, seen = streaming.Stream(made), {}, []
    for _ in range(2 * -(-61 // size)):  # two passes
        split, place = stream.window(json.loads(json.dumps(place)))  # as a checkpoint brings it back
        seen += texts(split)
        assert len(split) <= size
    assert len(whole) == 61
    assert seen == whole * 2


@pytest.mark.parametrize("source", ["file", "hub"])
def test_any_window_can_be_begun_at(load, source):
    made = load(source, "--data.stream_rows", "9", "--data.limit_train", "50")
    stream, place, expected = streaming.Stream(made), {}, []
    for _ in range(14):
        split, following = stream.window(place)
        expected.append((place, texts(split), following))
        place = following
    assert sum(len(rows) for _, rows, _ in expected[:6]) == 50  # the limit is that of a pass
    for place, rows, following in reversed(expected):
        split, after = streaming.Stream(made).window(place)
        assert (texts(split), after.get("row")) == (rows, following.get("row"))
    place = {}
    for _, rows, _ in expected:  # interrupted after every window
        split, place = streaming.Stream(made).window(json.loads(json.dumps(place)))
        assert texts(split) == rows


def test_a_stream_is_opened_once_a_pass_and_not_once_a_window(load, monkeypatch):
    made, opened = load("file", "--data.stream_rows", "5"), []
    original = sources._file_rows
    monkeypatch.setattr(sources, "_file_rows", lambda *a: opened.append(1) or original(*a))
    stream, place = streaming.Stream(made), {}
    for _ in range(13):
        _, place = stream.window(place)
    assert place == {}
    assert len(opened) == 1


@pytest.mark.parametrize(("source", "packed"), [("file", True), ("hub", False)], ids=["packed file", "hub"])
def test_a_stopped_run_ends_bitwise_like_an_uninterrupted_one(
    write_recipe, fit, monkeypatch, tmp_path, source, packed
):
    whole_recipe, again_recipe = write_recipe("whole"), write_recipe("again")
    options = [*("--data.stream_rows", "13"), *("--loop.max_steps", "19"), *("--loop.save_every", "4")]
    options += [*("--batch.packing", "true", "--batch.block_size", "20")] if packed else []
    options += on_disk_hub(tmp_path, whole_recipe) if source == "hub" else []
    whole = fit(whole_recipe, *options)
    for stopped in (3, 11):
        with monkeypatch.context() as patch:
            stop_at(patch, stopped)
            with pytest.raises(signals.Stopped):
                fit(again_recipe, *options)
    run = whole.parent / "again"
    saved = checkpoint.read_state(checkpoint.newest(run)).progress
    assert saved.step == 12
    assert saved.stream["row"] in (13, 26, 39, 52)
    fit(again_recipe, *options)
    assert (run / "final/model.safetensors").read_bytes() == (whole / "final/model.safetensors").read_bytes()
    lines = [
        [line["loss"] for line in map(json.loads, (folder / "metrics.jsonl").open()) if line["event"] == "train"]
        for folder in (run, whole)
    ]
    assert lines[0] == lines[1]


def test_the_ranks_of_a_job_share_each_window(load, tmp_path):
    made = load("file", "--data.stream_rows", "25", "--loop.accumulate", "2")
    splits = load_splits(made)
    from train.model import build

    build.make_tokenizer(made, splits["train"], tmp_path / "tokenizer")
    tokenizer = build.load_tokenizer(tmp_path / "tokenizer")

    def epochs(world):
        """Return the rows of every step by window, for all ranks together."""
        ranks = [
            iter(steps.Places(training.encode(splits["train"], tokenizer, made), made, rank, world, 0, 0))
            for rank in range(world)
        ]
        seen = []
        for _ in range(12):
            places = [next(rank) for rank in ranks]
            assert len({(place.epoch, place.position, place.batches, str(place.following)) for place in places}) == 1
            seen.append((places[0].epoch, sorted(row for place in places for micro in place.micro for row in micro)))
        return seen

    one, two = epochs(1), epochs(2)
    assert one == two
    assert sorted(row for window, rows in one for row in rows if window == 0) == list(range(25))
    assert {window for window, _ in one} >= {0, 1, 2}


def test_two_windows_are_shuffled_differently(load, tmp_path):
    made = load("file", "--data.stream_rows", "61", "--batch.max_rows", "1")
    from train.model import build

    splits = load_splits(made)
    build.make_tokenizer(made, splits["train"], tmp_path / "tokenizer")
    rows = training.encode(splits["train"], build.load_tokenizer(tmp_path / "tokenizer"), made)
    places = iter(steps.Places(rows, made, 0, 1, 0, 0))
    orders = [[next(places).micro[0][0] for _ in range(61)] for _ in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(61))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("task", ["causal", "masked"])
def test_text_is_streamed_too(write_recipe, tmp_path, task):
    from train.model import build

    path, lines = write_recipe(), "".join(f"{'abcdefg'[: 1 + i % 7]}\n" for i in range(50))
    (tmp_path / "data" / "train.txt").write_text(lines, encoding="utf-8")
    made = reading.load_recipe(
        [
            *(str(path), "--task", task, "--data.train", "train.txt", "--data.validation", "null"),
            *("--data.stream_rows", "20", "--batch.block_size", "11", "--eval.split", "train"),
        ]
    )
    splits = load_splits(made)
    assert splits["train"]["text"] == lines.splitlines()[:20]
    build.make_tokenizer(made, splits["train"], tmp_path / "tokenizer")
    tokenizer = build.load_tokenizer(tmp_path / "tokenizer")
    rows = training.encode(splits["train"], tokenizer, made)
    for window, bounds in enumerate([(0, 20), (20, 40), (40, 50), (0, 20)]):
        found = [rows.row(window, index)["input_ids"] for index in range(len(rows.lengths(window)))]
        ids = np.concatenate(
            [one[1:-1] for one in found] if task == "masked" else [found[0][:1]] + [one[1:] for one in found]
        )
        ended = "</s>" if task == "causal" else ""
        text = "".join(f"{line}{ended}" for line in lines.splitlines()[slice(*bounds)])
        assert "".join(tokenizer.convert_ids_to_tokens(ids.tolist())) == text


def test_a_mistake_behind_the_first_window_is_named_with_its_line(write_recipe, fit, tmp_path):
    path = write_recipe()
    with open(tmp_path / "data" / "train.tsv", "a", encoding="utf-8") as file:
        file.write("abc\t\n")
    options = ("--data.stream_rows", "20", "--loop.max_steps", "40", "--loop.save_every", "5")
    with pytest.raises(UserError, match=r"train\.tsv:62: the target is empty"):
        fit(path, *options)
    run = fit(path, *options, "--run_dir", str(tmp_path / "skipping"), "--data.on_bad_line", "skip")
    assert (run / "finished.json").is_file()


def test_a_row_too_long_behind_the_first_window_is_named_with_its_line(write_recipe, fit, tmp_path):
    path = write_recipe()
    with open(tmp_path / "data" / "train.tsv", "a", encoding="utf-8") as file:
        file.write(f"abc\t{'a' * 70}\n")
    with pytest.raises(UserError, match=r"train\.tsv:62: 71 tokens, must be at most batch\.max_tokens 64"):
        fit(path, "--data.stream_rows", "20", "--loop.max_steps", "40")


def test_other_data_at_the_start_of_the_stream_is_refused(write_recipe, fit, tmp_path):
    path = write_recipe()
    options = ("--data.stream_rows", "20")
    fit(path, *options, "--loop.max_steps", "2")
    file = tmp_path / "data" / "train.tsv"
    file.write_text("abc\tcba\n" + file.read_text())
    with pytest.raises(UserError, match="trained with another data"):
        fit(path, *options, "--loop.max_steps", "4")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--data.stream_rows", "0"], "data.stream_rows: 0 must be at least 1"),
        (["--data.stream_rows", "9", "--loop.num_workers", "1"], "loop.num_workers: 1 must be 0"),
        (
            ["--data.stream_rows", "9", "--data.validation", "null", "--data.validation_fraction", "0.1"],
            "must be null where data.validation_fraction is set",
        ),
        (["--data.stream_rows", "9", "--task", "classification"], "labels are counted first"),
        (["--data.stream_rows", "9", "--task", "causal", "--data.text_unit", "file"], "which is one row"),
    ],
)
def test_what_needs_all_rows_first_is_refused(load, overrides, words):
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        load("file", *overrides)


def test_a_plan_counts_the_first_window_and_claims_no_epochs(write_recipe, capsys):
    from train.commands import plan

    assert plan.run([str(write_recipe()), "--data.stream_rows", "20"]) in (0, None)
    shown = capsys.readouterr().out
    assert "counted in the first window of the stream: 20 rows" in shown
    assert "epochs unknown" in shown
