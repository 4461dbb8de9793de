"""Texts of any length: the ids of the whole, refusals with file and line, and a bound on the memory."""

import functools
import gzip
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reading import mistake, rows

from tokenizer import KINDS, build, pieces
from train.data import examples
from train.data import splits as data
from train.data.splits import load_splits
from train.tasks import TASKS

ROOT = Path(__file__).resolve().parents[3]


def prose(size: int, ends: float, seed: int = 0) -> str:
    """Return about `size` characters of words; `ends` is the share of line ends among what stands between them."""
    draw = random.Random(seed)
    known = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(1, 9))) for _ in range(3000)]
    words = draw.choices(known, k=20_000)
    block = "".join(word + ("\n" if draw.random() < ends else " ") for word in words)
    return block * (size // len(block) + 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["translation", "causal", "masked"])
def test_a_long_row_has_the_ids_of_one_call(recipe, monkeypatch, kind, task):
    texts = [prose(5000, 0.1, seed)[:5000].replace("\n", " ") for seed in range(3)]
    lines = [texts[0], "short", texts[1], "words", texts[2]]
    content = {"x.tsv": "".join(f"{line}\t{line.upper()}\n" for line in lines)}
    made = recipe(task, content, train="x.tsv", source_column=0, target_column=1, text_column=1)
    made.tokenizer.kind = kind
    made.model.max_position_embeddings, made.batch.max_tokens = 9000, 20_000
    split = load_splits(made)["train"]
    tokenizer = build(kind, lines, 300, TASKS[task].template, show_progress=False)
    whole = examples.encode(split, tokenizer, made)
    monkeypatch.setattr(examples, "_CALL", 2000)
    monkeypatch.setattr(pieces, "encode", functools.partial(pieces.encode, size=700, guard=100))
    monkeypatch.setattr(data, "_CHUNK_CHARACTERS", 5000)
    again = examples.encode(load_splits(made)["train"], tokenizer, made)
    if task == "translation":
        for side in ("input_ids", "labels"):
            assert np.array_equal(again.sides[side].flat, whole.sides[side].flat)
            assert np.array_equal(again.sides[side].offsets, whole.sides[side].offsets)
    else:
        assert np.array_equal(again.stream, whole.stream)


def test_calls_are_bounded_and_keep_the_order(monkeypatch):
    monkeypatch.setattr(examples, "_CALL", 10)
    texts = ["a" * size for size in (3, 7, 1, 0, 25, 9, 2, 10)]
    calls = list(examples._calls(texts))
    assert [text for call in calls for text in call] == texts
    assert all(sum(map(len, call)) <= 10 or len(call) == 1 for call in calls)
    assert [list(map(len, call)) for call in calls] == [[3, 7], [1, 0], [25], [9], [2], [10]]


@pytest.mark.parametrize("unit", ["line", "file"])
def test_a_row_without_a_place_to_cut_is_named_with_its_line(recipe, monkeypatch, unit):
    monkeypatch.setattr(examples, "_CALL", 2000)
    monkeypatch.setattr(pieces, "encode", functools.partial(pieces.encode, size=700, guard=100))
    files = {"a.txt": "fine words\n" * 9, "b.txt": "fine\n" + "x" * 5000 + "\n"}
    made = recipe("causal", files, train=["a.txt", "b.txt"], text_unit=unit)
    tokenizer = build("wordpiece", ["fine words"], 300, "causal", show_progress=False)
    with pytest.raises(ValueError, match=r"b\.txt:2: .*no place" if unit == "line" else r"b\.txt: .*no place"):
        examples.encode(load_splits(made)["train"], tokenizer, made)


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_a_line_that_is_too_long_reaches_on_bad_line(recipe, monkeypatch, caplog, gz):
    monkeypatch.setattr(pieces, "LONGEST_LINE", 100)
    files = {f"x.txt{gz}": b"a\n" + b"b" * 101 + b"\nc\n" + b"d" * 5000}
    made = recipe("causal", files, train=f"x.txt{gz}")
    assert f"x.txt{gz}:2: a line of more than " in mistake(made)
    with caplog.at_level(logging.WARNING):
        splits = load_splits(recipe("causal", files, train=f"x.txt{gz}", on_bad_line="skip"))
    assert rows(splits["train"]) == [("a",), ("c",)]
    assert "skipped 2 bad line(s)" in caplog.text


def test_a_file_that_is_one_text_has_a_longest_length(recipe):
    from train.data.readers import read_whole

    made = recipe("causal", {"x.txt": "a" * 100}, train="x.txt")
    assert read_whole(Path(made.data.root) / "x.txt", most=100) == "a" * 100
    with pytest.raises(ValueError, match=r"x\.txt: more than 99 bytes"):
        read_whole(Path(made.data.root) / "x.txt", most=99)


@pytest.mark.parametrize("name", ["x.txt.gz", "x.jsonl.gz", "x.csv.gz", "x.json.gz"])
@pytest.mark.parametrize("unit", ["line", "file"])
def test_a_packed_file_that_unpacks_to_far_more_is_refused(recipe, monkeypatch, name, unit):
    monkeypatch.setattr(pieces, "FREE_BYTES", 10_000)
    head, line = {"x.json.gz": (b"[", b'"a",\n'), "x.csv.gz": (b"text\n", b"a\n")}.get(name, (b"", b'{"text": "a"}\n'))
    made = recipe("causal", {name: head + line * 10**6}, train=name, text_unit=unit, text_column="text")
    message = mistake(made)
    assert "over 200 times as many" in message
    assert name in message


RUN = """
import json, resource, sys
from {module} import main
code = main(sys.argv[1:])
print(json.dumps([code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


def in_bounds(module: str, *words: str) -> None:
    """Run a command line in a process of its own, which must end well and within 4 GB."""
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(module=module), *words],
        cwd=ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    code, most = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr[-3000:]
    assert most < 4e9, f"{most / 1e9:.2f} GB"
    print(f"{module}: {most / 1e9:.2f} GB")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ends", "unit"),
    [("bpe", 0.1, "line"), ("bpe", 0.0, "line"), ("char", 0.0, "line"), ("byte_bpe", 0.1, "file")],
)
def test_a_hundred_megabytes_are_trained_on_within_four_gigabytes(tmp_path, kind, ends, unit):
    (tmp_path / "train.txt").write_text(prose(100_000_000, ends), encoding="utf-8")
    (tmp_path / "validation.txt").write_text(prose(1000, 0.1)[:1000], encoding="utf-8")
    words = ["build", "--kind", kind, "--vocab-size", "2000", "--template", "causal", "--quiet"]
    in_bounds("tokenizer.__main__", *words, "--output", str(tmp_path / "tokenizer"), str(tmp_path / "train.txt"))
    (tmp_path / "r.yaml").write_text(
        json.dumps(
            {
                "name": "long",
                "task": "causal",
                "run_dir": str(tmp_path / "run"),
                "model": {"preset": "tiny"},
                "tokenizer": {"kind": kind, "vocab_size": 2000},
                "data": {
                    "root": str(tmp_path),
                    "train": "train.txt",
                    "validation": "validation.txt",
                    "text_unit": unit,
                },
                "loop": {"max_steps": 20, "eval_every": 100, "save_every": 100, "tracker": "none"},
                "eval": {"split": "validation", "metrics": ["loss"]},
            }
        )
    )
    in_bounds("train.__main__", "fit", str(tmp_path / "r.yaml"))


@pytest.mark.slow
def test_a_gz_bomb_costs_little_memory(tmp_path):
    with gzip.open(tmp_path / "train.txt.gz", "wb") as file:
        for _ in range(40):
            file.write(b"a" * 10**8)
    script = """
import pathlib, resource, sys
from tokenizer import read_texts
from train.data.readers import read_text, read_whole
path = pathlib.Path(sys.argv[1])
for read in (lambda: list(read_texts([path])), lambda: list(read_text(path)), lambda: read_whole(path)):
    try:
        sys.exit(f"{len(read())} read")
    except ValueError as error:
        assert "over 200 times" in str(error) or "one text must be shorter" in str(error), error
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "train.txt.gz")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1.5e9
