"""Check, reproduce and evaluate what lies on the Hub: by its id, at one commit, with a line for what cannot be read."""

import json
import re

import pytest
import torch
from dates_recipe import dates_recipe
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from train import __main__ as command
from train.hub.folder import write_hub_folder

NAME = "alice/dates-en-ko"
RECIPE = dates_recipe(
    "dates-en-ko", loop={"max_steps": 4, "eval_every": 100, "save_every": 100}, eval={"metrics": ["loss", "chrf"]}
)


@pytest.fixture(scope="module")
def online(module_hub, starter, tmp_path_factory):
    """Put the Hub folder of a run on the stand-in: right on main, and on branches with a fault each."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "dates.yaml").write_text(RECIPE)
    files = write_hub_folder(starter.fit(folder / "run", recipe=folder / "dates.yaml"), NAME)
    forged = json.loads((files / "results.json").read_text())
    forged["metrics"]["chrf"] += 5
    with module_hub.here(folder / "home"):
        api = HfApi(endpoint=module_hub.url, token="hf_alice")
        api.create_repo(NAME)
        api.upload_folder(repo_id=NAME, folder_path=files)
        for branch, operation in {
            "incomplete": CommitOperationDelete("layers.py"),
            "forged": CommitOperationAdd("results.json", json.dumps(forged).encode()),
            "bare": CommitOperationDelete("recipe.yaml"),
        }.items():
            api.create_branch(NAME, branch=branch)
            api.create_commit(NAME, [operation], commit_message=branch, revision=branch)
    return module_hub, folder


@pytest.fixture
def run(online, tmp_path, monkeypatch):
    """Return a function that runs a command in this process, led to the stand-in, in an empty folder."""
    from accelerate.state import AcceleratorState, GradientState

    def start(*words):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        return command.main(list(words))

    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the run that is reproduced
    with online[0].here(tmp_path / "home"):
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        yield start
    torch.set_num_threads(threads)


def test_a_repository_is_checked_at_one_commit(run, capsys):
    assert run("hub-check", NAME) == 0
    said = capsys.readouterr().out
    assert re.search(rf"{NAME} at commit [0-9a-f]{{40}}", said)
    assert re.search(r"sizes, hashes +pass  as the Hub lists them", said)
    assert re.search(r"same numbers +pass", said)
    assert run("hub-check", NAME, "--revision", "incomplete") == 1
    assert re.search(r"imports +FAIL  stacks.py:\d+: relative import of layers", capsys.readouterr().out)


def test_a_repository_is_reproduced_and_a_forged_figure_is_not(run, capsys):
    assert run("reproduce", NAME, "--run_dir", "again") == 0
    assert "weights: the same sha256" in capsys.readouterr().out
    assert run("reproduce", NAME, "--run_dir", "again", "--revision", "forged") == 1
    assert re.search(r"test +chrf .* NO", capsys.readouterr().out)


def test_a_repository_is_evaluated_and_nothing_is_written_into_the_cache(run, online, capsys, tmp_path):
    recipe = str(online[1] / "dates.yaml")
    assert run("evaluate", NAME, "--recipe", recipe) == 0
    written = tmp_path / "runs" / "evaluated" / "alice--dates-en-ko" / "results.json"
    assert f"written to {written.relative_to(tmp_path)}" in capsys.readouterr().out
    content, first = json.loads(written.read_text()), json.loads((online[1] / "run" / "results.json").read_text())
    assert content["metrics"] == pytest.approx(first["metrics"])
    assert (content["model"]["id"], content["weights"]) == (NAME, first["weights"])
    assert re.fullmatch("[0-9a-f]{40}", content["model"]["revision"])
    (cached,) = (tmp_path / "home").rglob("results.json")
    assert cached.read_bytes() == online[0].files(NAME)["results.json"]
    assert not [path for path in (tmp_path / "home").joinpath("hub").rglob("*.py")], (
        "code was fetched that nobody asked for"
    )
    assert run("evaluate", NAME, "--recipe", recipe, "--split", "validation", "--output", "elsewhere") == 0
    assert json.loads((tmp_path / "elsewhere" / "results.json").read_text())["split"] == "validation"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["hub-check", "alice/nothing"], "neither a folder here nor a repository that http"),
        (["hub-check", NAME, "--revision", "never"], "has no revision 'never'"),
        (["reproduce", "alice/nothing"], "neither a folder here nor a repository that http"),
        (["reproduce", NAME, "--revision", "bare"], "has no recipe.yaml, so there is nothing to reproduce"),
        (["evaluate", NAME], "say how to score it: --recipe"),
        (["evaluate", "alice/nothing", "--recipe", "{recipe}"], "neither a folder here nor a repository that http"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(run, online, capsys, words, line):
    assert run(*(word.format(recipe=online[1] / "dates.yaml") for word in words)) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
