"""Files that are broken, of another version, or cannot be written: one line that names them, whatever reads or writes."""

import contextlib
import json
import logging
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reading import mistake, rows
from safetensors.torch import save_file

from train import files
from train.commands import reproduction
from train.data import cache
from train.data.splits import load_splits
from train.errors import UserError
from train.hub import folder as hub_folder
from train.measure import results
from train.pictures import curves
from train.run import checkpoint, mean
from train.settings.reading import load_recipe

ROOT = Path(__file__).resolve().parents[3]
DIGITS, NESTED = "1" * 5000, "[" * 100_000 + "]" * 100_000
# What Python's reader of JSON does not read, each with an error of another class.
UNREADABLE = {
    "digits": (DIGITS.encode(), "more than 4300 digits"),
    "nested": (NESTED.encode(), "nested too deeply"),
    "latin-1": (b'"caf\xe9"', "byte 0xe9 found"),
    "half": (b"nul", "Expecting value"),
}
unreadable = pytest.mark.parametrize(("value", "rule"), UNREADABLE.values(), ids=UNREADABLE)


@unreadable
@pytest.mark.parametrize("column", ["source", "other"])
def test_a_row_that_json_cannot_read_reaches_on_bad_line(recipe, caplog, value, rule, column):
    good = b'{"source": "a%d", "target": "b%d"}\n'
    bad = b'{"%s": ' % column.encode() + value + b', "target": "b"}\n'
    content = {"x.jsonl": good % (0, 0) + bad + good % (1, 1)}
    message = mistake(recipe("translation", content, train="x.jsonl"))
    assert "x.jsonl:2: " in message
    assert rule.split(" found")[0] in message
    with caplog.at_level(logging.WARNING):
        splits = load_splits(recipe("translation", content, train="x.jsonl", on_bad_line="skip"))
    assert rows(splits["train"]) == [("a0", "b0"), ("a1", "b1")]
    assert "skipped 1 bad line(s)" in caplog.text


@unreadable
def test_an_array_that_json_cannot_read_is_named(recipe, value, rule):
    message = mistake(recipe("causal", {"x.json": b'[{"text": "a"},\n' + value + b"]"}, train="x.json"))
    assert "x.json:" in message
    assert rule in message


@pytest.mark.parametrize("value", [DIGITS, NESTED, "2026-13-45", "!!python/name:os.system", "\x07"])
def test_a_recipe_that_yaml_cannot_read_is_named(write_recipe, value):
    path = write_recipe()
    path.write_text(path.read_text() + f"\nmore: {value}\n")
    with pytest.raises(UserError, match=str(path)):
        load_recipe([str(path)])


@pytest.mark.parametrize("value", [DIGITS, NESTED, "[" * 3000])
@pytest.mark.parametrize("key", ["model.d_ff", "eval.metrics", "data.generator_args", "name"])
def test_an_override_that_cannot_be_read_is_an_error_or_a_text(write_recipe, key, value):
    with contextlib.suppress(UserError):  # a name may be made of brackets
        assert load_recipe([str(write_recipe()), f"--{key}={value}"]).name == value


@unreadable
def test_results_that_cannot_be_read_are_named(tmp_path, value, rule):
    (tmp_path / files.RESULTS).write_bytes(b'{\n"metrics": ' + value + b"}")
    with pytest.raises(UserError, match=f"{files.RESULTS}:[12]: .*{rule}"):
        results.read(tmp_path)
    (tmp_path / "recipe.yaml").write_text("name: x\ntask: causal\n")
    with pytest.raises(UserError, match=f"{files.RESULTS}: cannot be read .*{rule}"):
        reproduction.published_at(str(tmp_path), None)


@unreadable
def test_events_cut_short_are_left_out_by_every_reader(tmp_path, value, rule):
    whole = [{"event": "train", "step": step, "loss": 5.0 - step} for step in range(1, 4)]
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps(event).encode() for event in whole]
    path.write_bytes(b"\n".join([*lines[:2], b'{"event": "train", "step": ' + value, b"3", b"{}", lines[2], value]))
    assert [event for event in files.read_events(path) if event] == whole
    assert results.train_summary(tmp_path)["step"] == 3
    assert curves.draw(path, tmp_path / "curves.png").stat().st_size > 1000


def saved_as(folder: Path, change) -> None:
    """Change the state of a checkpoint, such that its digests are right."""
    path = folder / checkpoint.STATE_FILE
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    files.write_manifest(folder)


def test_a_checkpoint_of_another_version_is_refused_in_one_line(write_recipe, fit):
    path = write_recipe(loop={"max_steps": 4, "save_every": 2, "keep_last": 2})
    run = fit(path, "--loop.max_steps", "2")
    folder = checkpoint.folder_of(run, 2)
    before = json.loads((folder / checkpoint.STATE_FILE).read_text())
    assert before["format"] == checkpoint.FORMAT
    for change, said in (
        (lambda state: state.update(format=7, version="9.9"), "format 7, written by version 9.9; .* reads format 1"),
        (lambda state: state["progress"].update(phase_of_the_moon=1), "another version .*phase_of_the_moon"),
        (lambda state: state.pop("identity"), "another version .*identity"),
    ):
        (folder / checkpoint.STATE_FILE).write_text(json.dumps(before))
        saved_as(folder, change)
        with pytest.raises(UserError, match=f"^{folder}: .*{said}"):
            fit(path)
    (folder / checkpoint.STATE_FILE).write_text(json.dumps(before))
    saved_as(folder, lambda state: state.update(format=7))
    with pytest.raises(UserError, match="format 7"):
        mean.average(run, 1)
    # Version 0.1.0 wrote neither: its runs go on.
    (folder / checkpoint.STATE_FILE).write_text(json.dumps(before))
    saved_as(folder, lambda state: [state.pop(name) for name in ("format", "version")])
    assert (fit(path) / "final" / "config.json").is_file()


def test_a_user_without_a_home_has_no_cache_and_no_error(monkeypatch, caplog, tmp_path):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME", cache.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with caplog.at_level(logging.WARNING):
        assert cache.folder() is None
    assert cache.VARIABLE in caplog.text
    (tmp_path / "log").mkdir()
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    hub_folder._copy_text(tmp_path / "metrics.jsonl", tmp_path / "log")
    assert (tmp_path / "log" / "metrics.jsonl").read_text() == "{}\n"


@pytest.mark.slow  # a process of its own: what is imported may look for a home as well
def test_a_run_needs_no_home_and_no_name_of_the_user(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"{{name: r, task: translation, run_dir: {tmp_path / 'r'}, model: {{preset: tiny}}, tokenizer: {{kind: char}},\n"
        "data: {generator: dates, generator_args: {train: 20001, validation: 20, test: 20}},\n"
        "loop: {max_steps: 1}, eval: {split: validation}}\n"
    )
    script = (
        "import pwd, runpy, sys\ndef unknown(uid):\n    raise KeyError(uid)\npwd.getpwuid = unknown\n"
        f"sys.argv = ['train', 'fit', {str(recipe)!r}]\nrunpy.run_module('train', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no cache of token ids" in done.stderr
    assert "Traceback" not in done.stderr


@contextlib.contextmanager
def full_disk():
    """Let every write of more than a hundred bytes fail, as on a full disk."""
    old, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)


def staged(path: Path, write) -> None:
    """Fill a folder through a staged one."""
    with files.staged_folder(path) as staging:
        write(staging)


class Log:
    """As much of a tracker as writing a line needs."""

    main = True

    def __init__(self, path: Path):
        self.path = path


def event(path: Path) -> None:
    """Add a long line to metrics.jsonl."""
    from train.run.tracking import Tracker

    Tracker._write(Log(path), {"text": "x" * 500})


WRITES = {
    "text": lambda path, _: files.write_text(path, "x" * 500),
    "json": lambda path, _: files.write_json(path, ["x" * 500]),
    "event": lambda path, _: event(path),
    "array": lambda path, _: staged(path, lambda folder: np.save(folder / "a.npy", np.zeros(999))),
    "weights": lambda path, _: staged(
        path, lambda folder: save_file({"a": torch.zeros(999)}, folder / "a.safetensors")
    ),
    "tokenizer": lambda path, made: staged(path, made.tokenizer.save_pretrained),
    "tokenizer build": lambda path, made: made.save(made.tokenizer, path),
    "recipe": lambda path, made: made.recipe.save(path),
    "picture": lambda path, made: curves.draw(made.metrics, path),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_that_fails_names_its_path_and_leaves_nothing(write, tmp_path, write_recipe):
    class Made:
        from tokenizer import save

        save = staticmethod(save)

    from tokenizer import build

    Made.tokenizer = build("char", ["abc" * 100], 100, "causal", show_progress=False)
    Made.recipe = load_recipe([str(write_recipe())])
    Made.metrics = tmp_path / "metrics.jsonl"
    Made.metrics.write_text('{"event": "train", "step": 1, "loss": 2.5}\n')
    folder = tmp_path / "place"
    folder.mkdir()
    path = folder / "what"
    with full_disk(), pytest.raises(OSError) as caught:
        write(path, Made)
    assert str(path) in str(caught.value) or str(folder / ".staging-what") in str(caught.value)
    assert "\n" not in str(caught.value)
    shutil.rmtree(folder)


def test_a_command_that_cannot_write_ends_in_one_line(tmp_path, capsys):
    from train import __main__

    (tmp_path / "metrics.jsonl").write_text('{"event": "train", "step": 1, "loss": 2.5}\n')
    with full_disk():
        code = __main__.main(["curves", str(tmp_path), "--output", str(tmp_path / "c.png")])
    assert code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert str(tmp_path / "c.png") in said
    assert said.count("\n") == 1
