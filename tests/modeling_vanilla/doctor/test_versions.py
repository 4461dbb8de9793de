# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`doctor --transformers`: real processes; what needs the package index is tried without one."""

import json
import sys

import pytest
import transformers

from modeling_vanilla.__main__ import main
from modeling_vanilla.doctor.versions import home, requirement, side_by_side

HERE = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return an empty folder of versions, without an index to fill it from."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    return home()


@pytest.mark.parametrize(
    ("version", "asked"),
    [("newest", "transformers"), ("5.17", "transformers==5.17.*"), ("5.17.1", "transformers==5.17.1")],
)
def test_versions_are_asked_for_as_pip_calls_them(version, asked):
    assert requirement(version) == asked


def test_two_versions_side_by_side(build, tmp_path, cache, capsys):
    """Two kept folders that hold nothing: both processes see the installed transformers."""
    build("decoder").save_pretrained(tmp_path / "model")
    for version in ("9.1.0", "9.2.0"):
        (cache / f"{version}-{HERE}").mkdir(parents=True)
    words = ["doctor", str(tmp_path / "model"), "--checks", "finite,wrong-mask", "--transformers", "9.1.0,9.2.0"]
    assert main([*words, "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [report["transformers"] for report in reports] == [transformers.__version__] * 2
    assert [finding["name"] for finding in reports[1]["findings"]] == ["finite", "wrong-mask"]


def test_a_row_for_each_check_and_a_column_for_each_version():
    def report(version: str, outcome: str) -> dict:
        finding = {"name": "cache", "outcome": outcome, "meaning": "the cache changes the logits"}
        return {"class": "Model", "transformers": version, "findings": [finding]}

    lines = side_by_side("folder", [report("5.23.0", "pass"), report("5.24.0", "FAIL")]).splitlines()
    assert lines[2].split() == ["check", "5.23.0", "5.24.0"]
    assert lines[3].split() == ["cache", "pass", "FAIL"]
    assert lines[-1] == "5.24.0: cache: the cache changes the logits"


@pytest.mark.parametrize(
    ("version", "said"),
    [("five", "'five' must be newest, or a version"), ("5.17", "transformers==5.17.* cannot be installed")],
)
def test_a_version_that_cannot_be_had_is_one_line(cache, capsys, version, said):
    assert main(["doctor", "anything", "--transformers", version]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not cache.exists() or not any(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert main(["doctor", "anything", "--transformers", "5.17.0"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "cannot be written: Not a directory" in line


def test_a_model_that_is_none_is_one_line(tmp_path, cache, capsys):
    (cache / f"9.1.0-{HERE}").mkdir(parents=True)
    assert main(["doctor", str(tmp_path / "nothing"), "--transformers", "9.1.0"]) == 2
    assert "with the transformers of 9.1.0" in capsys.readouterr().err
