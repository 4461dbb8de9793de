"""`python -m train publish --mend`: folders and repositories of 0.1.0 get the code of this version and lose nothing."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from released import KINDS, folder_of, generated, strangers_ids

from train import __main__, files
from train.hub import releases, upload
from train.hub.check import report, use

NAME = "alice/dates"
OF_THE_CODE = {"config.json", "manifest.json"}


@pytest.fixture
def old(tmp_path):
    """Return the folder of a published run, as 0.1.0 wrote it."""
    return folder_of("encoder-decoder", tmp_path / "old")


@pytest.fixture
def unused(monkeypatch):
    """Leave out the process that uses the mended folder; one test has it."""
    monkeypatch.setattr(use, "findings", lambda *_: iter([("use", True, "left out")]))


def publish(*words) -> int:
    return __main__.main(["publish", "--mend", *map(str, words)])


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_mended(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """See that the code is that of the package, that the rest is the same to the byte, and that no field is lost."""
    code = {path.name: path.read_bytes() for path in releases.shipped()}
    assert {name: data for name, data in after.items() if name.endswith(".py")} == code
    kept = {name for name in before if not name.endswith(".py")} - OF_THE_CODE
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert set(after) == kept | set(code) | (OF_THE_CODE & set(before))
    was, now = json.loads(before["config.json"]), json.loads(after["config.json"])
    for config in (was, now):  # the classes are those of 0.1.0, their files may have other names
        for pipeline in config.get("custom_pipelines", {}).values():
            pipeline["impl"] = pipeline["impl"].split(".")[1]
    assert now == was | {releases.FIELD: releases.VERSION}


# ---- a folder here


def test_a_mended_folder_is_right_without_this_package(old, tmp_path, capsys):
    """Checked as a publish is, by a process of its own; and it generates what 0.1.0 generated when that was right."""
    before = content(old)
    assert publish(old) == 0
    said = capsys.readouterr().out
    assert re.search(rf"code of 0.1.0 -> code of {releases.VERSION}; written: .*; checked$", said.strip()), said
    assert_mended(before, content(old))
    assert files.damage(old) is None
    assert list(old.parent.iterdir()) == [old]
    decoder = folder_of("decoder", tmp_path / "both" / "decoder")
    shutil.copytree(old, tmp_path / "both" / "encoder-decoder")
    for path in releases.shipped():  # what `save_pretrained` alone wrote has no card, so publishing would refuse it
        shutil.copyfile(path, decoder / path.name)
    found = strangers_ids(tmp_path / "both", tmp_path / "work")
    assert {kind: found[kind] for kind in KINDS} == {kind: generated()[kind] for kind in KINDS}
    # Also where config.json names none, as the decoder's: the code knows which it is.
    assert {found[f"version {kind}"] for kind in KINDS} == {releases.VERSION}


def test_what_is_mended_needs_no_mending(old, unused, capsys):
    assert publish(old) == 0
    before, times = content(old), [path.stat().st_mtime_ns for path in sorted(old.iterdir())]
    capsys.readouterr()
    assert publish(old) == 0
    assert "nothing to mend, it has the code of" in capsys.readouterr().out
    assert (content(old), [path.stat().st_mtime_ns for path in sorted(old.iterdir())]) == (before, times)


def test_a_dry_run_changes_nothing(old, unused, capsys):
    before = content(old)
    assert publish(old, "--dry-run") == 0
    assert "checked, nothing was written" in capsys.readouterr().out
    assert content(old) == before
    assert list(old.parent.iterdir()) == [old]


def test_files_that_somebody_added_stay_and_are_not_listed(old, unused):
    (old / "notes.md").write_text("mine")
    (old / "more").mkdir()
    (old / "more" / "notes.txt").write_text("mine too")
    before = content(old)
    assert publish(old) == 0
    assert_mended(before, content(old))
    assert not {"notes.md", "more/notes.txt"} & set(json.loads((old / "manifest.json").read_text())["files"])


def test_half_of_each_version_becomes_one(old, unused):
    before = content(old)
    for path in releases.shipped()[::2]:
        shutil.copyfile(path, old / path.name)
    (old / "manifest.json").unlink()
    before.pop("manifest.json")
    assert publish(old) == 0
    assert_mended(before, content(old))


def edit(**fields):
    """Return a function that changes fields of a folder's config.json."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | fields))

    return change


REFUSED = {
    "code of somebody else": (
        lambda folder: (folder / "layers.py").write_text("x = 1\n"),
        r"layers.py: neither code of 0\.\d+\.\d+ nor of a known release \(0\.1\.0",
    ),
    "a file of somebody else": (lambda folder: (folder / "handler.py").write_text(""), r"handler.py: neither code"),
    "code of a later version": (
        lambda folder: (edit(modeling_vanilla_version="9.0.0")(folder), (folder / "layers.py").write_text("")),
        r"layers.py: neither .*\(config.json says version 9.0.0\)",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
    "another model": (edit(model_type="bert"), r"model_type='bert' must be 'vanilla'"),
    "numbers that no model has": (edit(d_model=-8), r"config.json: d_model=-8 must be at least 1"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "a run; mend .*/old/hub, or publish it again"),
    "no folder of a model": (
        lambda folder: [(folder / name).unlink() for name in ("config.json", "recipe.yaml")],
        "no config.json, so no model to mend",
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_mended_is_refused_and_stays(reason, old, unused, capsys):
    change, line = REFUSED[reason]
    change(old)
    before = content(old)
    assert publish(old) == 2
    said = capsys.readouterr().err
    assert re.search(line, said), said
    assert said.count("\n") == 1
    assert content(old) == before
    assert list(old.parent.iterdir()) == [old]


def test_what_fails_its_check_stays_as_it_was(old, capsys):
    """Weights that the manifest and the receipts do not know: nothing of the folder runs."""
    weights = bytearray((old / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (old / "model.safetensors").write_bytes(weights)
    before = content(old)
    assert publish(old) == 1
    said = capsys.readouterr()
    assert "as it was; not fit to be published with the new code either: sizes, hashes: model.safetensors" in said.err
    assert "figures" in said.out
    assert content(old) == before
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--repo-id", NAME], "takes neither --repo-id nor --private"),
        (["--private"], "takes neither --repo-id nor --private"),
        (["--tag", "v2"], "a folder here has no branches, tags or pull requests"),
        (["--revision", "small"], "a folder here has no branches"),
        (["--create-pr"], "a folder here has no branches"),
    ],
)
def test_options_that_do_not_go_together(words, line, old, capsys):
    before = content(old)
    assert publish(old, *words) == 2
    assert line in capsys.readouterr().err
    assert content(old) == before


def test_neither_a_folder_nor_an_id(capsys):
    assert publish("no such/place/at all") == 2
    assert "neither a folder nor an id of the Hub" in capsys.readouterr().err
    assert __main__.main(["publish", "run"]) == 2
    assert "--repo-id USER/NAME is missing" in capsys.readouterr().err


KILLS = {
    "while it writes the copy": (shutil, "copyfile", 20),
    "before the old folder steps aside": (Path, "rename", 1),
    "between the two renames": (Path, "rename", 2),
    "before the old one is dropped": (files, "sync", "last"),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_mend_loses_nothing_and_goes_on(moment, old, unused, monkeypatch):
    where, name, count = KILLS[moment]
    before, real = content(old), getattr(where, name)
    child = os.fork()
    if child == 0:
        calls = 0

        def last(*words, **options):
            nonlocal calls
            calls += 1
            ended = words[0] == old.parent if count == "last" else calls == count
            os._exit(9) if ended else None
            return real(*words, **options)

        setattr(where, name, last)
        try:
            publish(old)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    if moment == "between the two renames":  # the whole old folder, under the name that the next start looks for
        assert content(old.parent / ".retired-old") == before
    elif moment == "before the old one is dropped":
        assert_mended(before, content(old))
    else:
        assert content(old) == before
    assert publish(old) == 0
    assert_mended(before, content(old))
    assert list(old.parent.iterdir()) == [old]


# ---- a repository


@pytest.fixture
def repo(hub_here, old):
    """Put the folder on the stand-in, with a note of its owner; return the stand-in and what is there."""
    api = HfApi()
    api.create_repo(NAME)
    api.upload_folder(repo_id=NAME, folder_path=old)
    api.create_commit(NAME, [CommitOperationAdd("notes.txt", b"mine")], commit_message="a note")
    return hub_here, hub_here.files(NAME)


def titles() -> list[str]:
    return [commit.title for commit in HfApi().list_repo_commits(NAME)]


def test_a_repository_is_mended_in_one_commit(repo, unused, capsys):
    hub, before = repo
    head, earlier = hub.repo(NAME).branches["main"], titles()
    assert publish(NAME, "--dry-run") == 0
    assert "nothing was uploaded" in capsys.readouterr().out
    assert hub.files(NAME) == before
    assert publish(NAME, "--tag", "v2") == 0
    assert_mended(before, hub.files(NAME))
    assert titles() == [
        f"Mend: code of 0.1.0 becomes that of {releases.VERSION}",
        *earlier,
    ]
    said = capsys.readouterr().out
    assert f"{NAME} at commit {head}" in said
    commit = hub.repo(NAME).branches["main"]
    assert f"commit {commit}, tag v2" in said
    assert hub.repo(NAME).tags == {"v2": commit}
    assert publish(NAME) == 0
    assert "nothing to mend" in capsys.readouterr().out
    assert hub.repo(NAME).branches["main"] == commit


def test_a_repository_is_mended_on_a_branch_and_by_request(repo, unused):
    hub, before = repo
    HfApi().create_branch(NAME, branch="small")
    assert publish(NAME, "--revision", "small") == 0
    assert_mended(before, hub.files(NAME, "small"))
    assert publish(NAME, "--create-pr") == 0
    assert_mended(before, hub.files(NAME, "refs/pr/1"))
    assert hub.files(NAME) == before


def test_code_that_this_version_lost_goes_without_a_manifest_too(repo, unused, monkeypatch):
    """Pushed by hand there is no manifest; 0.1.0 called files otherwise."""
    hub, before = repo
    assert releases.known()["0.1.0"].files.keys() - {path.name for path in releases.shipped()}
    HfApi().delete_file("manifest.json", NAME)
    assert publish(NAME) == 0
    del before["manifest.json"]
    assert_mended(before, hub.files(NAME))


def test_what_somebody_committed_meanwhile_is_not_undone(repo, unused, monkeypatch, capsys):
    hub, before = repo
    survey = upload.survey

    def late(*words):
        if not hub.files(NAME)["README.md"].startswith(b"---\nnew"):
            HfApi().create_commit(
                NAME, [CommitOperationAdd("README.md", b"---\nnew: 1\n---\n")], commit_message="card"
            )
        return survey(*words)

    monkeypatch.setattr(upload, "survey", late)
    assert publish(NAME) == 1
    assert "somebody else changed it meanwhile" in capsys.readouterr().err
    assert hub.files(NAME) == before | {"README.md": b"---\nnew: 1\n---\n"}


@pytest.mark.parametrize("reason", ["foreign code", "check", "branch", "nothing", "token"])
def test_a_repository_that_cannot_be_mended_stays(reason, repo, unused, monkeypatch, capsys):
    hub, _ = repo
    name, words, code, line = NAME, [], 2, ""
    if reason == "foreign code":
        HfApi().create_commit(NAME, [CommitOperationAdd("layers.py", b"x = 1\n")], commit_message="mine")
        line = f"{NAME}: layers.py: neither code"
    elif reason == "check":
        failed = report.Report([report.Finding("use", False, "it does not run")])
        monkeypatch.setattr(report, "check_folder", lambda folder: failed)
        code, line = 1, "as it was; not fit to be published with the new code either: use: it does not run"
    elif reason == "branch":
        words, line = ["--revision", "never"], "has no revision 'never'"
    elif reason == "nothing":
        name, line = "alice/never", "neither a folder here nor a repository"
    else:
        monkeypatch.delenv("HF_TOKEN")
        line = "no token"
    before = hub.files(NAME)
    assert publish(name, *words) == code
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert len(said) == 1
    assert line in said[0]
    assert hub.files(NAME) == before
