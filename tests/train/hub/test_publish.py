"""`python -m train publish`, from a real run to a stand-in for the Hub, and on to a stranger."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dates_recipe import dates_recipe
from huggingface_hub import HfApi
from transformers import AutoTokenizer

from modeling_vanilla import VanillaForConditionalGeneration
from train import __main__
from train.hub import folder as hub_folder
from train.hub.check import alone, report

ROOT = Path(__file__).resolve().parents[3]
NAME = "alice/dates-en-ko"
DATES = dates_recipe(
    "dates-en-ko",
    optim={"warmup_steps": 5},
    loop={"max_steps": 12, "eval_every": 6},
    eval={"metrics": ["loss", "exact_match"]},
)
# For a process that has nothing of this project, and loads what it is told.
STRANGER = """
for name in ("modeling_vanilla", "train", "tokenizer"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} is here")
exec(sys.argv[1])
inputs = tokenizer(sys.argv[2], return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))
"""


def call(words, environment=None, folder=ROOT) -> tuple[int, str, str]:
    """Run a process to its end; return exit code, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=(environment or os.environ) | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "dates.yaml"
    path.write_text(DATES, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(starter, recipe):
    """Return a run that the command trained, without a word of the Hub."""
    return starter.fit(recipe.parent / "run", recipe=recipe)


@pytest.fixture
def run(trained, tmp_path):
    """Return a copy of the run."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def unchecked(monkeypatch):
    """Leave out the check of the folder and its pictures, which take their time and have tests of their own."""
    passed = report.Report([report.Finding("left out", True, "")])
    monkeypatch.setattr(report, "check_folder", lambda folder: passed)
    monkeypatch.setattr(hub_folder, "_draw", lambda *_: None)


def publish(*words) -> int:
    return __main__.main(["publish", *map(str, words)])


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def there(hub, revision="main", name=NAME) -> dict[str, bytes]:
    return {path: data for path, data in hub.files(name, revision).items() if path != ".gitattributes"}


def test_published_and_used_by_a_stranger(hub_here, run, tmp_path):
    """The whole way: the command checks and sends; the three lines it prints load the model where nothing else is."""
    hub = hub_here
    words = ["-m", "train", "publish", run, "--repo-id", NAME, "--tag", "v1"]
    code, output, errors = call(words, hub.environment(tmp_path / "home"))
    assert code == 0, output + errors
    assert there(hub) == content(run / "hub")
    sha = hub.repo(NAME).branches["main"]
    assert f"commit {sha}, tag v1\n" in output
    lines = re.search(r"^from transformers import .*\n.*\n.*\n", output, re.MULTILINE).group()
    assert lines.count(f'"{NAME}", revision="{sha}"') == 2
    environment = hub.environment(tmp_path / "elsewhere", token=None)
    code, output, errors = call(alone.command(STRANGER, lines, "May 1, 2020")[1:], environment, tmp_path)
    assert code == 0, errors
    assert output.strip() == translated(run / "final", "May 1, 2020") != ""


def translated(folder, text: str) -> str:
    """Return what the model of a folder makes of a text, by the package."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = VanillaForConditionalGeneration.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt")
    return tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True)


def test_a_run_that_went_on_is_one_more_commit(hub_here, run, unchecked, capsys):
    assert publish(run, "--repo-id", NAME, "--private") == 0
    assert HfApi().model_info(NAME).private
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"metrics": {"loss": 0.5}}))
    assert publish(run, "--repo-id", NAME) == 0
    assert there(hub_here) == content(run / "hub")
    titles = [commit.title for commit in HfApi().list_repo_commits(NAME)]
    assert titles[:2] == ["Publish dates-en-ko"] * 2
    assert titles.count("Publish dates-en-ko") == 2
    assert publish(run, "--repo-id", NAME) == 0  # once more: the same content is no commit
    assert [commit.title for commit in HfApi().list_repo_commits(NAME)] == titles
    output = capsys.readouterr().out
    assert (output.count("published: "), output.count("nothing to send")) == (2, 1)


def test_a_branch_and_a_pull_request(hub_here, run, unchecked, capsys):
    assert publish(run, "--repo-id", NAME, "--revision", "small") == 0
    assert there(hub_here, "small") == content(run / "hub")
    assert there(hub_here) == {}
    assert publish(run, "--repo-id", NAME, "--create-pr") == 0
    assert there(hub_here, "refs/pr/1") == content(run / "hub")
    assert f"pull request opened: {hub_here.url}/{NAME}/discussions/1" in capsys.readouterr().out


def test_a_dry_run_sends_nothing(hub_here, run, unchecked, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert publish(run, "--repo-id", NAME, "--dry-run") == 0
    assert "nothing was uploaded" in capsys.readouterr().out
    assert hub_here.requests == []
    assert (run / "hub" / "README.md").is_file()


def test_a_folder_that_fails_its_check_is_not_sent(hub_here, run, monkeypatch, capsys):
    failed = report.Report([report.Finding("pickle", False, "training_args.bin is a pickle")])
    monkeypatch.setattr(report, "check_folder", lambda folder: failed)
    assert publish(run, "--repo-id", NAME) == 1
    assert "not fit to be published: pickle: training_args.bin is a pickle" in capsys.readouterr().err
    assert hub_here.sent("^(POST|PUT|DELETE)") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repo-id", "no name/at/all"], "repo-id 'no name/at/all'"),
        (["--repo-id", "name"], "repo-id 'name': must be user/name"),
        (["--repo-id", NAME, "--create-pr", "--tag", "v1"], "--tag v1: "),
        (["--repo-id", NAME, "--create-pr", "--revision", "b"], "--create-pr: "),
        (["--repo-id", NAME, "--create-pr"], "publish without --create-pr"),
        (
            ["--repo-id", NAME],
            f"{NAME}: no repository that bob can see, and bob cannot make one for alice; name one of bob/...",
        ),
        (["--repo-id", "lab/model"], "lab/model: this token may not make the repository"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(hub_here, run, unchecked, capsys, monkeypatch, words, message):
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    assert publish(run, *words) == 2
    errors = capsys.readouterr().err.splitlines()
    lines = [line for line in errors if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in "".join(errors)
    assert hub_here.store.repos == {}


@pytest.mark.parametrize("reason", ["token", "wrong", "offline", "public"])
def test_who_may_not_publish_is_told_before_the_work(hub_here, run, monkeypatch, capsys, reason):
    if reason == "token":
        monkeypatch.delenv("HF_TOKEN")
    elif reason == "wrong":
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    elif reason == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        HfApi().create_repo(NAME)
    assert publish(run, "--repo-id", NAME, "--private") == 2
    words = {"token": "no token", "wrong": "does not know this token", "offline": "OFFLINE", "public": "is public"}
    assert words[reason] in capsys.readouterr().err
    assert not (run / "hub").exists()
