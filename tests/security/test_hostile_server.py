"""What a server that is not the Hub may send to `hub-check` and its like: no name of it becomes a path, none reaches a terminal."""

import json
import sys
from types import SimpleNamespace

import pytest

from modeling_vanilla import doctor
from modeling_vanilla.doctor import versions
from train.errors import UserError
from train.hub import client, fetch


@pytest.mark.parametrize("commit", ["../../../escaped", "/tmp/x", "main", "\x1b[2J", "", "a" * 39, "A" * 40, None])
def test_a_commit_is_forty_digits(monkeypatch, commit):
    """It names a folder of the cache."""
    monkeypatch.setattr(fetch.HfApi, "model_info", lambda *words, **options: SimpleNamespace(sha=commit))
    with pytest.raises(UserError, match="names no commit of its main branch"):
        fetch.commit_of("user/name")


@pytest.mark.parametrize("name", ["../../evil.json", "/evil.json"])
def test_a_name_that_leaves_the_folder_is_one_line(monkeypatch, tmp_path, name):
    def refuse(*words, **options):
        raise ValueError(f"Invalid filename '{name}'")  # as huggingface_hub does

    monkeypatch.setattr(fetch, "snapshot_download", refuse)
    monkeypatch.setattr(fetch, "listing", lambda repo_id, commit: {name: {"size": 1, "blob_id": "0" * 40}})
    with pytest.raises(UserError, match="Invalid filename"):
        fetch.folder("user/name", "0" * 40, tmp_path / "here")
    with pytest.raises(UserError, match="Invalid filename"):
        fetch.cached("user/name", "0" * 40, ["*.json"])


def test_what_a_server_says_is_shown_as_escapes(capsys):
    client.Hub().say("left alone: a\x1b]0;title\x07\u202e.json")
    assert capsys.readouterr().out == "left alone: a\\x1b]0;title\\x07\\u202e.json\n"


def test_the_report_of_the_doctor_as_json_is_ascii():
    subject = SimpleNamespace(model=None, seed=0)
    found = doctor.Finding("weights", "FAIL", None, None, "\x9b2J\u202e")
    text = doctor.as_json("\x9b2J", subject, [found])
    assert text.isascii() and json.loads(text)["findings"][0]["meaning"] == "\x9b2J\u202e"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot leave the working folder out")
@pytest.mark.parametrize("name", ["pip", "modeling_vanilla"])
def test_the_doctor_starts_nothing_of_the_folder_that_it_stands_in(tmp_path, monkeypatch, name):
    """`python -m` looks there first, and a stranger's folder may hold a file of any name."""
    (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ValueError, match="--transformers|with the transformers"):
        if name == "pip":
            versions.exact("5.17")
        else:
            versions.examine_with(tmp_path / "none", [])
    assert not (tmp_path / "ran").exists()
