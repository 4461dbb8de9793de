"""`python -m tokenizer build`."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tokenizer.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("Ein Hund läuft.\nDas Kind läuft, der Hund schläft.\n안녕 </s>\n" * 4)
    return path


def arguments(corpus, output, *more: str) -> list[str]:
    return ["build", "--template", "seq2seq", "--quiet", "--output", str(output), *more, str(corpus)]


def test_the_documented_command(tmp_path, corpus):
    output = tmp_path / "made" / "here"
    command = [sys.executable, "-m", "tokenizer", "build", "--kind", "bpe", "--vocab-size", "200"]
    command += ["--template", "seq2seq", "--output", str(output), str(corpus), str(corpus)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert f"{len(tokenizer)} tokens" in done.stdout
    assert "'Ein Hund läuft.' (the same)" in done.stdout
    assert "texts" in done.stderr  # the progress bar
    assert tokenizer.decode(tokenizer("Hund </s>")["input_ids"], skip_special_tokens=True) == "Hund </s>"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_console_without_korean_changes_no_exit_code(tmp_path, console, encoding):
    (tmp_path / "corpus.txt").write_text("안녕 세상\n" * 4, encoding="utf-8")
    printed = console(encoding)
    assert main(arguments(tmp_path / "corpus.txt", tmp_path / "출력", "--kind", "char")) == 0
    assert "\\uc548\\ub155" in printed()
    assert main(arguments(tmp_path / "없음", tmp_path / "other")) == 2


def test_char_learns_the_newline_from_the_ends_of_lines(tmp_path, corpus):
    assert main(arguments(corpus, tmp_path / "out", "--kind", "char")) == 0
    assert "\n" in AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()


def test_an_empty_folder_is_filled_and_options_arrive(tmp_path, corpus):
    output = tmp_path / "out"
    output.mkdir()
    options = ["--kind", "wordpiece", "--lowercase", "--max-length", "9", "--vocab-size", "400", "--normalize", "nfd"]
    assert main(arguments(corpus, output, *options)) == 0
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer.model_max_length == 9
    assert tokenizer("HUND")["input_ids"] == tokenizer("hund")["input_ids"]
    assert "ä" not in tokenizer.decode(tokenizer("läuft")["input_ids"])  # decomposed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--vocab-size", "20"], ["vocab_size=20"]),
        (["--vocab-size", "many"], ["--vocab-size", "many"]),
        (["--kind", "magic"], ["--kind", "magic"]),
        (["--min-frequency", "0"], ["min_frequency=0"]),
        (["--normalize", "nfkc"], ["--normalize", "nfkc"]),
        (["missing.txt"], ["missing.txt", "no such file"]),
        (["--unknown"], ["--unknown"]),
    ],
)
def test_errors_are_one_line_and_exit_code_two(tmp_path, corpus, options, words):
    output = tmp_path / "out"
    # argparse leaves through SystemExit, the rest through the return value: a process sees both the same way.
    command = [sys.executable, "-m", "tokenizer", *arguments(corpus, output, *options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert [word for word in words if word not in done.stderr] == []
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]


def test_an_output_that_holds_something_is_left_alone(tmp_path, corpus, capsys):
    output = tmp_path / "out"
    output.mkdir()
    (output / "notes").write_text("mine")
    assert main(arguments(corpus, output)) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["notes"]


def test_a_late_error_writes_nothing(tmp_path, corpus, capsys):
    corpus.write_bytes(b"fine\n" * 50 + b"\xff\n")
    assert main(arguments(corpus, tmp_path / "parent" / "out")) == 2
    assert "corpus.txt:51" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]
