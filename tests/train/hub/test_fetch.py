# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What is fetched from the Hub is measured first: nothing that fills the disk is begun, and the reader is told in one line."""

import collections
import shutil

import pytest
from hub_client import NAME, add

from train import __main__ as command
from train.commands import reproduction
from train.commands.evaluate_folder import fetched
from train.errors import UserError
from train.hub import fetch

FETCHED = r"^GET /(?!api)"
CONTENT = {
    "config.json": b'{"model_type": "vanilla"}',
    "model.safetensors": bytes(9_000),
    "notes/more.md": bytes(700),
    "recipe.yaml": b"#" * 70_000,  # more than is read of a recipe
    "results.json": b"{}",
}
SIZE = sum(map(len, CONTENT.values()))


@pytest.fixture
def commit(api):
    """Return the commit of a repository with files and a sub-folder."""
    api.create_repo(NAME)
    return api.create_commit(NAME, add(**CONTENT), commit_message="first").oid


@pytest.fixture
def disk(monkeypatch):
    """Return a function that sets how many bytes are free, wherever one asks; it notes where that was."""
    asked = []

    def only(free):
        usage = collections.namedtuple("usage", "total used free")
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path: asked.append(path) or usage(10**12, 10**12 - free, free)
        )
        return asked

    return only


@pytest.mark.parametrize(
    "words", [("hub-check", NAME), ("publish", "--mend", NAME, "--dry-run")], ids=["hub-check", "mend"]
)
def test_a_repository_larger_than_the_disk_is_not_fetched(hub_here, commit, disk, capsys, words):
    attributes = len(hub_here.files(NAME)[".gitattributes"])
    disk(SIZE + attributes - 1)
    assert command.main(list(words)) == 2
    said = capsys.readouterr().err
    assert f"{NAME}: has {SIZE + attributes:,} bytes to fetch, and {SIZE + attributes - 1:,} are free in " in said
    assert said.count("\n") == 1
    assert said.endswith("; set TMPDIR\n")
    assert hub_here.sent(FETCHED) == []


def test_one_that_just_fits_is(hub_here, commit, disk, tmp_path):
    disk(SIZE + len(hub_here.files(NAME)[".gitattributes"]))
    folder = fetch.folder(NAME, commit, tmp_path / "copy")
    assert (folder / "model.safetensors").read_bytes() == CONTENT["model.safetensors"]


def test_a_model_larger_than_the_disk_is_not_evaluated(hub_here, commit, disk, tmp_path):
    """What the cache holds needs no room, and what the model is not made of is not counted."""
    needed = len(CONTENT["config.json"]) + len(CONTENT["model.safetensors"]) + len(CONTENT["results.json"])
    asked = disk(needed - 1)
    with pytest.raises(UserError, match=rf"has {needed:,} bytes to fetch, and {needed - 1:,} are free.*HF_HOME"):
        fetched(NAME, None, False)
    assert hub_here.sent(FETCHED) == []
    assert asked == [tmp_path], "the cache's folder is not there yet"
    disk(needed)
    folder, _ = fetched(NAME, None, False)
    assert (folder / "model.safetensors").stat().st_size == 9_000
    disk(0)
    assert fetched(NAME, commit, False)[0] == folder


def test_a_recipe_of_any_size_is_not_fetched(hub_here, commit, api):
    with pytest.raises(UserError, match=f"{NAME}: recipe.yaml has 70,000 bytes, at most 65,536 are read"):
        reproduction.fetch(NAME, None)
    assert hub_here.sent(FETCHED) == []
    api.create_commit(NAME, add(**{"recipe.yaml": b"a: 1"}), commit_message="smaller")
    api.delete_file("results.json", NAME)
    with pytest.raises(UserError, match=r"has no results.json, so there is nothing to reproduce"):
        reproduction.fetch(NAME, None)
