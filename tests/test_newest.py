"""`make test-newest`: what goes into its two environments, when they are made anew, and what counts as a failure."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("newest", Path(__file__).with_name("newest.py"))
newest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(newest)

REQUIREMENTS = ["torch>=2.13", "transformers>=5.17,<6", "accelerate", "jsonargparse[signatures]"]
CONSTRAINTS = (
    'accelerate==1.15.0\nhuggingface-hub==2.4.0 ; python_version >= "3.11"\npillow==12.3.0  # why\ntorch==2.13.0\n'
    'torchao==0.18.0\ntransformers==5.23.0 ; python_version >= "3.11"\n'
)
README = "works with transformers 5.17 to 5.24, its own tests"


def test_the_oldest_has_the_lower_bounds_and_the_newest_only_its_torch():
    assert newest.oldest(REQUIREMENTS, CONSTRAINTS).splitlines() == [
        "accelerate==1.15.0",
        "pillow==12.3.0  # why",
        "torch==2.13.0",
        "torchao==0.18.0",
        "transformers~=5.17.0",
    ]
    assert newest.newest(CONSTRAINTS) == "torch==2.13.0\n"


def test_the_lower_bound_of_torch_is_the_one_that_is_run():
    """No older torch is tried in the environment of the oldest, so none may be promised."""
    project = newest.tomllib.loads((newest.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    bound = newest.lower_bounds(newest.wanted(project))["torch"]
    run = newest.newest((newest.ROOT / "constraints.txt").read_text("utf-8"))
    assert run.startswith(f"torch=={bound}.")


@pytest.mark.parametrize(
    ("version", "supported"),
    [("5.16.1", False), ("5.17.0", True), ("5.24.9", True), ("5.25.0", False), ("5.3.0", False), ("6.0.0rc1", False)],
)
def test_what_readme_promises(version, supported):
    assert newest.is_supported(version, README) == supported


def made(folder):
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()


@pytest.fixture
def played(tmp_path, monkeypatch):
    """Return the commands that would have run, in a project where pip and pytest are played."""
    for name, text in (("README.md", README), ("constraints.txt", CONSTRAINTS)):
        (tmp_path / name).write_text(text)
    lists = f'dependencies = {json.dumps(REQUIREMENTS[:2])}\n[project.optional-dependencies]\ntrain = ["accelerate"]\n'
    (tmp_path / "pyproject.toml").write_text(f"[project]\n{lists}")
    calls, outside = [], {"transformers": "5.25.0", "failing": ()}

    def run(command, **options):
        calls.append([str(word) for word in command[1:]])
        if "--report" in command:
            packages = [{"metadata": {"name": "transformers", "version": outside["transformers"]}}]
            (tmp_path / ".venv-newest" / "report.json").write_text(json.dumps({"install": packages}))
        return subprocess.CompletedProcess(
            command, "pytest" in command and any(n in command[0] for n in outside["failing"])
        )

    monkeypatch.setattr(newest, "ROOT", tmp_path)
    monkeypatch.setattr(newest.subprocess, "run", run)
    monkeypatch.setattr(newest.venv, "create", lambda folder, **_: made(folder))
    versions = {".venv-oldest": "5.17.0"}
    monkeypatch.setattr(newest, "transformers_of", lambda folder: versions.get(folder.name, outside["transformers"]))
    return calls, outside


@pytest.mark.parametrize(
    ("failing", "version", "code"),
    [
        ((), "5.25.0", 0),
        (("newest",), "5.25.0", 0),
        (("newest",), "5.24.1", 1),
        (("oldest",), "5.25.0", 1),
        (("oldest", "newest"), "5.25.0", 1),
    ],
)
def test_only_a_promised_version_fails(played, failing, version, code, capsys):
    played[1].update(failing=failing, transformers=version)
    assert newest.main([]) == code
    said = capsys.readouterr().out
    wrong = "FAILED" if version == "5.24.1" else "BROKEN, but newer than README.md promises"
    assert f"newest: transformers {version}: {wrong if 'newest' in failing else 'passed'}" in said
    assert f"oldest: transformers 5.17.0: {'FAILED' if 'oldest' in failing else 'passed'}" in said


def test_an_environment_is_kept_until_what_belongs_into_it_changes(played, monkeypatch):
    calls, outside = played

    def pips():
        calls.clear()
        newest.main(["tests/x.py"])
        assert sum("pytest" in words and words[-1] == "tests/x.py" for words in calls) == 2
        return [" ".join(words) for words in calls if "pip" in words]

    first = pips()
    assert len(first) == 3 and "--dry-run" in first[1] and first[2].endswith("transformers==5.25.0")
    assert pips() == []
    outside["transformers"] = "5.26.0"
    assert pips() == [], "the index is asked once a day"
    (newest.ROOT / ".venv-newest" / "resolved.json").unlink()
    assert [words.split()[-1] for words in pips()][-1] == "transformers==5.26.0"
    (newest.ROOT / "constraints.txt").write_text(CONSTRAINTS.replace("1.15.0", "1.16.0"))
    assert len(pips()) == 1, "of the oldest alone"
