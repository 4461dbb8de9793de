"""The cache of token ids: the same ids, named by all that decides them, whole or made anew, one maker at a time."""

import logging
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tokenizer as tokenizers
from train.data import cache, examples
from train.data.splits import load_splits
from train.settings.recipe import Recipe
from train.settings.sections import BatchSection, DataSection
from train.tasks import TASKS

ROOT = Path(__file__).resolve().parents[3]
LINES = ["a fat cat", "", "sat on </s> the mat", "<unk> \u2028 und so weiter", "eine Katze"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Cache even a few rows, in a folder of the test."""
    monkeypatch.setattr(cache, "FEW_ROWS", 1)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def made(home: Path) -> list[Path]:
    """Return the folders of the cache."""
    return sorted(path for path in home.iterdir() if path.is_dir()) if home.is_dir() else []


def make(tmp_path, task="causal", lines=LINES, texts=LINES):
    """Return split, tokenizer and recipe over lines."""
    (tmp_path / "x.txt").write_text("\n".join(lines), encoding="utf-8")
    recipe = Recipe(
        name="c", task=task, data=DataSection(root=str(tmp_path), train="x.txt"), batch=BatchSection(block_size=9)
    )
    template = TASKS[task].template
    built = tokenizers.build("char", list(texts), 99, template, show_progress=False, min_frequency=1)
    return load_splits(recipe)["train"], built, recipe


def rows(encoded, epoch=1):
    """Return the ids of every row."""
    return [encoded.row(epoch, index)["input_ids"].tolist() for index in range(len(encoded.lengths(epoch)))]


@pytest.mark.parametrize("task", ["causal", "masked"])
def test_cached_ids_are_the_ids_and_need_no_tokenizer(tmp_path, home, monkeypatch, task):
    arguments = make(tmp_path, task)
    with monkeypatch.context() as patch:
        patch.setenv(cache.VARIABLE, "")
        expected = rows(examples.encode(*arguments))
        assert made(home) == []
    assert rows(examples.encode(*arguments)) == expected
    (place,) = made(home)
    assert sorted(path.name for path in place.iterdir()) == ["flat.npy", "manifest.json", "offsets.npy"]

    def refuse(*words, **keywords):
        raise AssertionError("encoded again")

    monkeypatch.setattr(examples, "_encoded", refuse)
    assert rows(examples.encode(*arguments)) == expected


def test_ids_are_mapped_not_read(tmp_path, home):
    split, built, recipe = make(tmp_path)
    ids = examples._tokens(split, "text", built, recipe, 0, special=False)
    base = ids.flat
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base.base, mmap.mmap)
    assert ids.flat.dtype == np.int32


def test_few_rows_leave_no_file(tmp_path, home, monkeypatch):
    monkeypatch.setattr(cache, "FEW_ROWS", 6)
    examples.encode(*make(tmp_path))
    assert made(home) == []


def test_the_key_changes_with_all_that_decides_the_ids_and_nothing_else(tmp_path):
    split, built, _ = make(tmp_path)
    key = cache.key_of(split, "text", built, False)
    assert key == cache.key_of(make(tmp_path)[0], "text", make(tmp_path)[1], False)
    others = [
        cache.key_of(split, "text", built, True),
        cache.key_of(split, "text", make(tmp_path, texts="abc")[1], False),
    ]
    moved = [["a fat", " cat", *LINES[1:]], LINES[::-1], LINES[:-1], [*LINES, "x"], ["a fat caT", *LINES[1:]]]
    others += [cache.key_of(make(tmp_path, lines=lines)[0], "text", built, False) for lines in moved]
    assert len({key, *others}) == 8
    selected = make(tmp_path, lines=["first", *LINES])[0].select(range(1, 6))
    assert cache.key_of(selected, "text", built, False) == key


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "flipped": flip,
}


@pytest.mark.parametrize("name", ["flat.npy", "offsets.npy", "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_anew(tmp_path, home, caplog, name, damage):
    arguments = make(tmp_path)
    expected = rows(examples.encode(*arguments))
    (place,) = made(home)
    whole = {path.name: path.read_bytes() for path in place.iterdir()}
    DAMAGES[damage](place / name)
    with caplog.at_level(logging.WARNING):
        assert rows(examples.encode(*arguments)) == expected
    assert str(place) in caplog.text
    assert {path.name: path.read_bytes() for path in place.iterdir()} == whole


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, home, monkeypatch, caplog):
    arguments = make(tmp_path)
    expected = rows(examples.encode(*arguments))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert rows(examples.encode(*arguments)) == expected
    assert cache.VARIABLE in caplog.text


RACE = """
import sys, time
from pathlib import Path
import numpy as np
from train.data import cache
home = Path(sys.argv[1])
(home / f"ready{sys.argv[2]}").touch()
while not all((home / f"ready{i}").exists() for i in "01"):
    time.sleep(0.01)
def make():
    print("made", flush=True)
    time.sleep(0.5)
    return {"flat": np.arange(5, dtype=np.int32), "offsets": np.array([0, 5])}
print(cache.through("a" * 64, make)["flat"].tolist())
"""


def test_of_two_processes_one_makes_and_one_waits(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), cache.VARIABLE: str(tmp_path / "cache")}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), number],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in "01"
    ]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(outputs) == ["[0, 1, 2, 3, 4]\n", "made\n[0, 1, 2, 3, 4]\n"]


HOLDER = """
import sys, time
from pathlib import Path
from train.data import cache
with cache._locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(1.5)
"""


def test_a_wait_for_another_process_names_it(tmp_path, home, monkeypatch, caplog):
    place = home / ("a" * 64)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", HOLDER, str(place)]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setattr(cache, "PATIENCE", 0.2)
        with caplog.at_level(logging.WARNING):
            assert cache.through(place.name, lambda: {"flat": np.arange(3)})["flat"].tolist() == [0, 1, 2]
    (line,) = caplog.messages
    words = f"waiting for another process (pid {holder.pid}, since 20"
    assert line.startswith(f"{place}: {words}")
    assert line.endswith(") that makes these token ids")


def test_the_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "modeling_vanilla"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "modeling_vanilla"
