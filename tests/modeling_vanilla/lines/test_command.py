# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A line in, a line out: in order, whatever the windows and batches; interrupted and gone on with; or refused by line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from modeling_vanilla import VanillaForCausalLM, VanillaModel
from modeling_vanilla.lines import command, reading

from .conftest import TEXTS

GIVEN = "".join(f"{text}\n" for text in TEXTS)


@pytest.fixture
def translator(folder_of) -> Path:
    return folder_of("encoder-decoder")


@pytest.fixture
def expected(translator, pipe_of) -> list[str]:
    """What the pipeline gives for each text alone; a blank text stays blank."""
    pipe = pipe_of("translation", translator)
    texts = [pipe(text)[0]["translation_text"] if text.strip() else "" for text in TEXTS]
    assert len(set(texts)) == len(TEXTS) - 1, "texts that are alike prove nothing"
    return texts


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "text"
    path.write_text(GIVEN, "utf-8")
    return path


@pytest.fixture(params=[2, 3, 4096])
def window(request, monkeypatch):
    monkeypatch.setattr(reading, "WINDOW", request.param)


def test_lines_come_out_in_their_order(translator, expected, file, run, window):
    code, out, told = run("translate", translator, "--batch-size", 2, given=GIVEN)
    assert (code, out.splitlines()) == (0, expected)
    assert told.count("7 lines in ") == 1 and " lines/s, " in told
    assert run("translate", translator, file, "--quiet") == (0, out, "")
    to = file.with_name("out")
    assert run("translate", translator, file, "--output", to, "--quiet") == (0, "", "")
    assert to.read_text("utf-8") == out


def test_a_process_of_its_own_reads_a_pipe_by_its_name(translator, expected):
    words = [sys.executable, "-m", "modeling_vanilla", "translate", str(translator)]
    done = subprocess.run([*words, "/dev/stdin"], input=GIVEN.encode(), capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[:-1] == expected
    assert b"Traceback" not in done.stderr


def stop_at(monkeypatch, number: int) -> None:
    """Let Ctrl-C come while the answer to a text is waited for, the n-th of all."""
    answered, seen = command.Translate.answers, []

    def interrupted(self, result):
        seen.append(result)
        if len(seen) == number:
            raise KeyboardInterrupt
        return answered(self, result)

    monkeypatch.setattr(command.Translate, "answers", interrupted)


@pytest.mark.parametrize("more", [(), ("--n-best", "2"), ("--json",)])
def test_an_interrupted_run_goes_on(translator, file, run, monkeypatch, more):
    monkeypatch.setattr(reading, "WINDOW", 2)
    to, words = file.with_name("out"), ("translate", translator, file, *more)
    whole = run(*words, "--quiet")[1]
    with monkeypatch.context() as patch:
        stop_at(patch, 4)  # in the third window
        code, _, told = run(*words, "--output", to)
    assert (code, to.exists()) == (130, False)
    assert "interrupted; --resume goes on" in told
    partial = file.with_name("out.partial")
    begun = partial.read_text("utf-8")
    assert 0 < len(begun) < len(whole) and whole.startswith(begun)
    partial.write_bytes(partial.read_bytes()[:-3])  # as a full disk would leave it

    code, _, told = run(*words, "--output", to)
    assert (code, told.count("--resume goes on")) == (2, 1)
    code, _, told = run(*words, "--output", to, "--resume", "--length-penalty", "2")
    assert (code, told.count("was made with another length_penalty")) == (2, 1)
    file.write_text(GIVEN + "more\n", "utf-8")
    code, _, told = run(*words, "--output", to, "--resume")
    assert (code, told.count("was made with another input")) == (2, 1)
    file.write_text(GIVEN, "utf-8")
    code, _, told = run(*words, "--output", to, "--resume", "--batch-size", 3)
    assert (code, to.read_text("utf-8")) == (0, whole)
    assert not partial.exists()


def test_another_model_is_noticed(translator, file, run, monkeypatch):
    monkeypatch.setattr(reading, "WINDOW", 2)
    words = ("translate", translator, file, "--output", file.with_name("out"))
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        run(*words)
    model = AutoModelForSeq2SeqLM.from_pretrained(translator)
    with torch.no_grad():
        model.lm_head.weight[9] += 1e-3
    model.save_pretrained(translator)
    code, _, told = run(*words, "--resume")
    assert (code, told.count("was made with another model")) == (2, 1)


def test_json_holds_what_lines_cannot(translator, pipe_of, run):
    pipe = pipe_of("translation", translator)
    _, out, _ = run("translate", translator, "--json", "--n-best", 2, "--quiet", given=GIVEN)
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["source"] for row in rows] == TEXTS
    assert [len(row["answers"]) for row in rows] == [2 * bool(text.strip()) for text in TEXTS]
    for one, best in zip(rows[0]["answers"], pipe(TEXTS[0], num_beams=2, num_return_sequences=2), strict=True):
        assert one["text"] == best["translation_text"]
        assert one["score"] == pytest.approx(best["score"], abs=1e-4)


def test_what_reads_may_stop_reading(translator):
    """As `head` does: no error, no trace."""
    words = f"echo 'A cat.' | {sys.executable} -m modeling_vanilla translate {translator} --quiet | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", words], capture_output=True, check=True, text=True)
    assert "Error" not in done.stderr and "modeling_vanilla: " not in done.stderr


def test_a_line_that_is_wrong_is_named(translator, file, run):
    file.write_bytes(b"a\n\xff\n")
    code, out, told = run("translate", translator, file)
    assert (code, out, told.count("text, line 2: byte 1 is not UTF-8")) == (2, "", 1)
    code, out, told = run("translate", translator, file, "--output", file.with_name("out"))
    assert code == 2 and [p.name for p in file.parent.iterdir() if p.name.startswith("out")] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--resume",), "--resume: needs a FILE and --output"),
        (("no/file",), "no/file: no such file"),
        (("--batch-size", "0"), "--batch-size: 0 must be at least 1"),
        (("--n-best", "0"), "--n-best: 0 must be at least 1"),
        (("--device", "cuda:7"), "model: "),
        (("--device", "abacus"), "model: "),
        (("--dtype", "int8"), "invalid choice"),
    ],
)
def test_a_wrong_option_is_one_line(translator, run, words, message):
    if words[1:] == ("cuda:7",) and torch.cuda.device_count() > 7:
        pytest.skip("there is such a device")
    code, out, told = run("translate", translator, *words)
    assert (code, out, len(told.splitlines())) == (2, "", 1)
    assert message in told


@pytest.mark.parametrize(
    ("word", "variant", "model_class", "name"),
    [
        ("translate", "decoder", VanillaForCausalLM, "VanillaForCausalLM"),
        ("translate", "encoder-decoder", VanillaModel, "VanillaModel"),
        ("generate", "encoder-decoder", None, "VanillaForConditionalGeneration"),
        ("fill", "encoder", VanillaModel, "VanillaModel"),
        ("classify", "encoder", None, "VanillaForMaskedLM"),
    ],
)
def test_another_head_is_refused(folder_of, run, word, variant, model_class, name):
    code, out, told = run(word, folder_of(variant, model_class), given="a\n")
    assert (code, out) == (2, "")
    assert f"{name} is not what {word} needs" in told


def test_no_such_model(run, tmp_path):
    code, _, told = run("translate", tmp_path)
    assert (code, told.count("config.json: not a readable JSON file")) == (2, 1)


@pytest.mark.slow
def test_memory_is_flat(folder_of, tmp_path):
    """Peak memory after 300,000 short lines is at most 1.1 times that after 10,000."""
    folder = folder_of("encoder-decoder")
    program = (
        "import resource, sys; from modeling_vanilla.__main__ import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    peaks = []
    for count in (10_000, 300_000):
        path = tmp_path / f"{count}"
        path.write_text("".join(f"{TEXTS[number % 5]}\n" for number in range(count)), "utf-8")
        words = ["translate", str(folder), str(path), "--max-new-tokens", "1", "--batch-size", "256", "--output"]
        done = subprocess.run(
            [sys.executable, "-c", program, *words, f"{path}.out"], capture_output=True, check=True, text=True
        )
        peaks.append(int(done.stdout.split()[-1]))
        assert len(Path(f"{path}.out").read_text("utf-8").split("\n")) == count + 1
    assert peaks[1] <= 1.1 * peaks[0]
