"""The command line: exit codes, one line for a mistake, help, and what the launchers see."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from modeling_vanilla import VanillaConfig
from train.__main__ import COMMANDS, USAGE, main
from train.run import loop
from train.settings.sections import ModelSection

ROOT = Path(__file__).resolve().parents[3]
MODULE = [sys.executable, "-m", "train"]


def environment():
    """Return this process's environment, without a launcher's variables and with a CPU of one thread."""
    kept = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return kept | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def start(recipe, until):
    """Start an endless run and return its process once a line of its log begins with `until`."""
    command = [*MODULE, "fit", str(recipe), "--loop.max_steps", "1000000", "--loop.save_every", "1000000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), **pipes)
    for line in process.stdout:
        if line.startswith(until):
            break
    return process


def one_line(text):
    """Return the only line of a text."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optim": {"learning_rate": 1.0}}, ["tiny.yaml", "optim.learning_rate"]),
        ({"loop": {"max_steps": 0}}, ["tiny.yaml", "loop.max_steps", "0", "at least 1"]),
        ({"data": {"train": "nowhere.tsv"}}, ["nowhere.tsv"]),
        ({"data": {"train": "."}}, ["data: is a folder (data.train); must be a file"]),
        ({"data": {"target_column": 2}}, ["train.tsv:1", "column"]),
        ({"model": {"vocab_size": 9}}, ["model.vocab_size", "9", "14"]),
        ({"model": {"num_heads": 5}}, ["num_heads=5", "d_model=24"]),
        ({"loop": {"tracker": "abacus"}}, ["loop.tracker", "abacus"]),
        ({"tokenizer": {"path": "/no/such/folder"}}, ["tokenizer.path", "/no/such/folder"]),
        ({"eval": {"metrics": ["accuracy"]}}, ["accuracy", "translation"]),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2_and_nothing_written(write_recipe, fit, capsys, change, words):
    recipe = write_recipe(**change)
    before = sorted(recipe.parent.rglob("*"))
    assert main(["fit", str(recipe)]) == 2
    # Progress bars of the tokenizer and the encoder may precede it; they end with a carriage return.
    line = one_line("".join(part.split("\r")[-1] for part in capsys.readouterr().err.splitlines(keepends=True)))
    for word in words:
        assert word in line
    assert sorted(recipe.parent.rglob("*")) == before


def test_a_real_process_prints_one_line_and_no_traceback(write_recipe):
    command = [*MODULE, "fit", str(write_recipe()), "--optim.lr", "fast"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert "optim.lr" in line
    assert "fast" in line


def test_fit_average_evaluate(write_recipe, fit, tmp_path, capsys):
    recipe = write_recipe(loop={"max_steps": 4, "save_every": 2})
    folder = tmp_path / "tiny"
    assert main(["fit", str(recipe), "--optim.lr", "0.003"]) == 0
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["optim"]["lr"] == 0.003
    assert {"final", "results.json", "metrics.jsonl", "tokenizer", "checkpoints"} <= set(os.listdir(folder))
    assert main(["average", str(folder), "--last", "2"]) == 0
    assert (folder / "average" / "model.safetensors").is_file()
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--split", "train"]) == 0
    assert "loss" in capsys.readouterr().out


def test_a_console_without_korean_changes_no_exit_code(write_recipe, fit, tmp_path, console):
    recipe = write_recipe(loop={"max_steps": 2, "eval_every": 2})
    run, model = str(tmp_path / "시험"), str(tmp_path / "시험" / "final")
    words = [
        ["fit", str(recipe), "--run_dir", run],
        ["fit", str(recipe), "--run_dir", run],  # finished already
        ["plan", str(recipe), "--run_dir", run],
        ["average", run, "--last", "1"],
        ["evaluate", run, "--split", "train"],
        ["attention", model, "abc", "--output", str(tmp_path / "그림.png")],
        ["curves", run],
        ["publish", "--mend", model],
        ["publish", "없음", "--repo-id", "a/b"],
        ["hub-check", "없음"],
        ["reproduce", "없음"],
        ["시험"],
    ]
    printed = console("cp1252")
    codes = [main(command) for command in words]
    assert codes == [0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2], printed()
    assert "\\uc2dc\\ud5d8" in printed()


def test_a_running_folder_is_refused_and_a_signal_saves_and_exits_with_its_code(write_recipe, fit, tmp_path, capsys):
    recipe = write_recipe()
    process = start(recipe, until="step=1 ")
    try:
        assert main(["fit", str(recipe)]) == 2
        assert f"another process (pid {process.pid})" in capsys.readouterr().err
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 143
    last = errors.splitlines()[-1].split("\r")[-1]
    assert last.startswith("stopped at step ")
    saved = sorted((tmp_path / "tiny" / "checkpoints").iterdir())
    assert len(saved) == 1
    assert saved[0].name in last


def test_interrupt_says_so_and_has_its_own_code(write_recipe, fit, monkeypatch, capfd):
    original = loop.train_step

    def train_step(run, delivery, request):
        os.kill(os.getpid(), signal.SIGINT) if run.progress.step == 1 else None
        return original(run, delivery, request)

    monkeypatch.setattr(loop, "train_step", train_step)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main(["fit", str(write_recipe())]) == 130
    first, last = capfd.readouterr().err.splitlines()[-2:]
    assert "SIGINT: the run saves where it is and stops" in first
    assert "a second SIGINT ends it now" in first
    assert re.match(r"stopped at step \d, saved in ", last.split("\r")[-1])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command, capsys):
    try:
        code = main([command, "-h"])
    except SystemExit as end:
        code = end.code
    assert code == 0
    shown = capsys.readouterr().out
    assert f"python -m train {command}" in shown
    assert len(shown.splitlines()) > 5


def test_help_of_fit_lists_the_keys_of_a_recipe(capsys):
    main(["fit", "-h"])
    shown = capsys.readouterr().out
    for key in ("--optim.lr", "--loop.max_steps", "--batch.max_tokens", "--model.dropout", "--run_dir"):
        assert key in shown


def test_help_of_fit_says_what_the_keys_of_the_model_mean_and_their_default(capsys):
    main(["fit", "-h"])
    shown = " ".join(capsys.readouterr().out.split())
    for name in (field.name for field in dataclasses.fields(ModelSection)):
        key = f"--model.{name} "
        assert key in shown
        text = shown.partition(key)[2].partition("(type:")[0]
        assert len(text.split()) > 6, f"{name} has no meaning"
        if name not in ("preset", "init_from", "attn_implementation", "vocab_size"):
            value = yaml.safe_load(text.partition("without them ")[2].strip().removesuffix("."))
            assert value == getattr(VanillaConfig, name) or value == str(getattr(VanillaConfig, name))


def test_one_word_for_the_same_argument(capsys):
    for line in (line.split() for line in USAGE.splitlines() if line.startswith("  ")):
        words = [word for word in line[1:] if re.fullmatch(r"(RUN|MODEL)(_OR_MODEL)?(_OR_ID)?", word)]
        if line[0] in COMMANDS and words and "--mend" not in line:
            with pytest.raises(SystemExit):
                main([line[0], "-h"])
            assert words[0] in capsys.readouterr().out.split(), line


def test_no_command_and_a_wrong_one(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out
    assert main(["fti"]) == 2
    assert "fti" in one_line(capsys.readouterr().err)
    assert main(["average", "/no/such/run"]) == 2
    assert "/no/such/run" in one_line(capsys.readouterr().err)
    assert main(["evaluate", ".", "--spilt", "test"]) == 2
    assert "spilt" in one_line(capsys.readouterr().err)


def test_a_python_without_the_environment_is_told_how_to_make_it():
    # -S: without what is installed for this Python
    for words in (["fit", "train/recipes/dates-en-ko.yaml"], ["evaluate", "runs/x"], ["plan", "-h"]):
        command = [sys.executable, "-S", "-m", "train", *words]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        error, remedy = done.stderr.splitlines()
        assert error.startswith("error: ")
        assert "not installed" in error
        assert remedy.endswith("make venv && source .venv/bin/activate")


@pytest.mark.parametrize("place", ["/no/such/folder", "no/folder", "nowhere"])
@pytest.mark.parametrize(
    "command", [["evaluate"], ["attention"], ["curves"], ["average"], ["publish", "--repo-id", "a/b"]]
)
def test_a_folder_that_is_not_there_is_said_to_be_none(command, place, capsys):
    text = ["abc"] if command == ["attention"] else []
    assert main([*command, place, *text]) == 2
    assert f"{place}: no such folder" in one_line(capsys.readouterr().err)


def test_a_restart_that_would_wait_for_dead_processes_ends(write_recipe, fit, monkeypatch, capsys):
    for name, value in (("TORCHELASTIC_RESTART_COUNT", "1"), ("TORCHELASTIC_USE_AGENT_STORE", "True")):
        monkeypatch.setenv(name, value)
    assert main(["fit", str(write_recipe())]) == 2
    line = one_line(capsys.readouterr().err)
    assert line.startswith("error: restart 1 by torchrun: ")
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in line
