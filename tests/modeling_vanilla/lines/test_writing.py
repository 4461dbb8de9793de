# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A file has its name once it is whole; what an interruption left is gone on with, whole texts alone."""

import pytest

from modeling_vanilla.lines import writing

JOB = {"input": "1f", "beams": 4}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "text.ko"


def interrupted(path, content: bytes, lines_per_text: int = 1) -> None:
    """Leave what a run leaves that was ended in the middle of a line."""
    with pytest.raises(KeyboardInterrupt), writing.to_file(path, JOB, lines_per_text, resumes=False) as (file, done):
        assert done == 0
        file.write(content)
        raise KeyboardInterrupt


def test_a_whole_file_has_its_name_and_nothing_beside_it(path):
    with writing.to_file(path, JOB, 1, resumes=True) as (file, done):
        assert (done, path.exists()) == (0, False)
        writing.write(file, ["a", "", "년"])
    assert [p.name for p in path.parent.iterdir()] == ["text.ko"]
    assert path.read_text("utf-8") == "a\n\n년\n"


@pytest.mark.parametrize(
    ("content", "lines_per_text", "done", "kept"),
    [
        (b"a\n\nc\n", 1, 3, b"a\n\nc\n"),
        (b"a\nb\nto", 1, 2, b"a\nb\n"),
        (b"a1\na2\nb1\n", 2, 1, b"a1\na2\n"),
        (b"a1\na2\nb1\nb", 2, 1, b"a1\na2\n"),
        (b"to\xeb", 1, 0, b""),
    ],
)
def test_what_is_torn_is_cut_off(path, content, lines_per_text, done, kept):
    interrupted(path, content, lines_per_text)
    assert not path.exists()
    with writing.to_file(path, JOB, lines_per_text, resumes=True) as (file, found):
        assert found == done
        writing.write(file, ["z"])
    assert path.read_bytes() == kept + b"z\n"


def test_another_job_is_refused_by_name(path):
    interrupted(path, b"a\n")
    for job, names in ((JOB | {"beams": 5}, "beams"), ({"input": "2e", "long": "cut"}, "beams, input, long")):
        with pytest.raises(ValueError, match=f"was made with another {names}; "), writing.to_file(path, job, 1, True):
            pass
    assert writing.partial_of(path).read_bytes() == b"a\n"


def test_nothing_is_overwritten(path):
    interrupted(path, b"a\n")
    with pytest.raises(ValueError, match="partial: exists; --resume goes on"), writing.to_file(path, JOB, 1, False):
        pass
    with writing.to_file(path, JOB, 1, True):
        pass
    with pytest.raises(ValueError, match="text.ko: exists; nothing is overwritten"):
        writing.check(path, resumes=True)


def test_a_run_that_wrote_nothing_leaves_nothing(path):
    interrupted(path, b"")
    assert list(path.parent.iterdir()) == []


def test_a_text_stays_one_line():
    assert writing.one_line("a\nb\r\nc\u2028d") == "a b c d"
