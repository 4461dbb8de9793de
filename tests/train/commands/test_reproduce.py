"""Reproduce a small run for real; a forged figure, other data and another recipe must not pass."""

import json
import re
import shutil

import pytest
import torch

from train import __main__ as command
from train.commands import reproduction
from train.hub import folder as hub_folder
from train.measure import provenance


@pytest.fixture(scope="module")
def published(starter, tmp_path_factory):
    """Return the Hub folder of a run that another process trained, with two splits measured."""
    run = starter.fit(tmp_path_factory.mktemp("runs") / "dates", "--loop.max_steps=6", "--eval.metrics=[loss,chrf]")
    return hub_folder.write_hub_folder(run, "somebody/dates-en-ko")


@pytest.fixture
def folder(published, tmp_path):
    """Return a copy of it, to change."""
    return shutil.copytree(published, tmp_path / "hub")


@pytest.fixture
def run(fit, tmp_path):
    """Return a function that runs the command in this process, into a new folder; `fit` sees that it starts clean."""

    def start(folder, *words):
        return command.main(["reproduce", str(folder), "--run_dir", str(tmp_path / "again"), *words])

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the starter's processes: sums in another order would be other weights
    yield start
    torch.set_num_threads(threads)


def edit(folder, change):
    """Change results.json."""
    path = folder / "results.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_run_is_reproduced_and_a_forged_figure_is_not(folder, run, capsys, tmp_path):
    assert run(folder) == 0
    said = capsys.readouterr().out
    assert "weights: the same sha256" in said
    rows = [line.split() for line in said.splitlines() if re.match("test +[a-z_]+ +[0-9]", line)]
    assert [(row[1], row[-1]) for row in rows] == [("loss", "yes"), ("chrf", "yes")]
    assert json.loads((tmp_path / "again" / "results.json").read_text())["metrics"].keys() == {"loss", "chrf"}

    edit(folder, lambda content: content["metrics"].update(chrf=content["metrics"]["chrf"] + 0.6))
    assert run(folder) == 1  # the finished run is recognised, and compared again
    said = capsys.readouterr().out
    assert "is finished" in said
    assert [line for line in said.splitlines() if line.startswith("test ") and line.endswith("NO") and "chrf" in line]
    assert run(folder, "--tolerance", "chrf=0.7") == 0


def test_a_split_that_was_measured_later_is_measured_too(folder, run, capsys):
    edit(
        folder,
        lambda content: content.update(
            other_splits={"validation": content | {"split": "validation", "metrics": {"loss": 99.0}}}
        ),
    )
    assert run(folder) == 1
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("validation  loss") and line.endswith("NO")]


@pytest.mark.parametrize(
    ("change", "words", "line"),
    [
        (
            lambda f: edit(f, lambda c: c.update(data_hash="0" * 64)),
            [],
            "data: its sha256 is .*, that of the published run 0000",
        ),
        (
            lambda f: edit(f, lambda c: c.update(recipe_hash="1" * 64)),
            [],
            "recipe.yaml is not the recipe of its figures",
        ),
        (lambda f: edit(f, lambda c: c.update(metrics={})), [], "metrics: must name at least one figure"),
        (lambda f: edit(f, lambda c: c.update(metrics={"loss": "low"})), [], "metrics: must name"),
        (lambda f: (f / "results.json").write_text("[]"), [], "results.json: cannot be read"),
        (lambda f: (f / "results.json").unlink(), [], "has no results.json"),
        (lambda f: (f / "recipe.yaml").unlink(), [], "has no recipe.yaml"),
        (lambda f: None, ["--tolerance", "blue=1"], "'blue=1': must name a figure"),
        (lambda f: None, ["--tolerance", "bleu"], "write FIGURE=NUMBER, such as bleu=0.5 or loss=2%"),
        (lambda f: None, ["--tolerance", "loss=a lot"], "must be a number"),
        (lambda f: None, ["--tolerance", "loss=-1"], "must be a number"),
        (lambda f: None, ["--tolerance", "loss=nan%"], "must be a number"),
        (lambda f: None, ["--revision", "main"], "which has no revisions"),
    ],
)
def test_what_cannot_be_reproduced_is_refused_before_training(folder, run, capsys, tmp_path, change, words, line):
    change(folder)
    assert run(folder, *words) == 2
    said = capsys.readouterr().err
    assert re.search(line, said), said
    assert said.count("\n") == 1
    assert not (tmp_path / "again").exists()


def test_missing_data_is_named_with_its_place(write_recipe, tmp_path, fit, capsys):
    run = fit(write_recipe(loop={"max_steps": 2}))
    folder = hub_folder.write_hub_folder(run, "somebody/tiny")
    shutil.move(tmp_path / "data", tmp_path / "moved")
    words = ["reproduce", str(folder), "--run_dir", str(tmp_path / "again")]
    assert command.main([*words, "--data.root", str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr().err
    assert "train.tsv, validation.tsv below" in said
    assert "--data.root DIR" in said
    fit(write_recipe(name="other", loop={"max_steps": 1}))  # makes accelerate forget, and writes the data once more
    (tmp_path / "moved" / "train.tsv").write_text("a\ta\n" * 61)
    assert command.main([*words, "--data.root", str(tmp_path / "moved")]) == 2
    assert "other rows give other figures" in capsys.readouterr().err


def test_what_differs_is_said_line_by_line():
    here = {"versions": provenance.versions(), "code": provenance.code(), "hardware": provenance.hardware()}
    clean = here | {"code": here["code"] | {"changed": False}}
    then = clean | {
        "versions": clean["versions"] | {"torch": "1.0"},
        "code": {"version": "0.0", "commit": "f" * 40, "changed": True},
        "hardware": "a toaster",
    }
    lines = reproduction.differences({"train": then})
    assert lines[0] == f"version: torch 1.0 published, {here['versions']['torch']} here"
    assert lines[1].startswith("code: commit ffffffffffff with changes published")
    assert lines[2] == f"hardware: a toaster published, {here['hardware']} here"
    # A run that changed on its way: each part is compared, whatever the last one was.
    parts = [then | {"step": 0, "processes": 2}, clean | {"step": 9, "processes": 1}]
    changed = "the published run changed on its way: step 0: 2 process(es), step 9: 1 process(es)"
    assert reproduction.differences({"train": clean | {"history": parts}})[:3] == lines[:3]
    assert reproduction.differences({"train": clean | {"history": parts}})[-1] == changed
    assert reproduction.differences({"train": then | {"history": "nonsense"}}) == lines


@pytest.mark.parametrize(
    ("published", "reproduced", "allowed", "within"),
    [
        (40.0, 40.5, "0.5", True),
        (40.0, 39.4, "0.5", False),
        (2.0, 2.02, "1%", True),
        (2.0, 2.03, "1%", False),
        (2.0, float("nan"), "1%", False),
        (2.0, None, "1%", False),
        (0.0, 0.0, "1%", True),
    ],
)
def test_a_tolerance_is_in_the_figures_unit_or_in_percent(published, reproduced, allowed, within):
    assert reproduction.Comparison("test", "x", published, reproduced, allowed).within is within
