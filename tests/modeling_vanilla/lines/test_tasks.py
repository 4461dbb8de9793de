# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Each word gives what its pipeline gives for each line alone, with the options of that word."""

import pytest

from modeling_vanilla import VanillaForCausalLM, VanillaForMaskedLM, VanillaForSequenceClassification

from .conftest import POSITIONS, TEXTS

REAL = [text for text in TEXTS if text.strip()]
GIVEN = "".join(f"{text}\n" for text in REAL)
LONG = " ".join(["Two dogs run in Berlin."] * 9)


def scored(answers, text: str) -> list[str]:
    return [f"{answer['score']:.4f}\t{answer[text]}" for answer in answers]


def same_lines(found: list[str], expected: list[str]) -> None:
    """Compare lines of score, tab, text: texts exactly, scores to the rounding of their last digit."""
    assert [line.split("\t")[-1] for line in found] == [line.split("\t")[-1] for line in expected]
    scores = [[float(line.split("\t")[0]) for line in lines] for lines in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=2e-4)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ((), {}),
        (("--beams", "3", "--max-new-tokens", "5"), {"num_beams": 3, "max_new_tokens": 5}),
        (("--n-best", "2"), {"num_beams": 2, "num_return_sequences": 2}),
        (
            ("--n-best", "2", "--beams", "4", "--length-penalty", "0.6", "--paper"),
            {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.6, "length_penalty_form": "paper"},
        ),
    ],
    ids=" ".join,
)
def test_translate(folder_of, pipe_of, run, words, settings):
    folder = folder_of("encoder-decoder")
    pipe = pipe_of("translation", folder)
    answers = [pipe(text, return_scores=True, **settings) for text in REAL]
    code, out, _ = run("translate", folder, *words, "--scores", given=GIVEN)
    assert code == 0
    same_lines(out.splitlines(), [line for one in answers for line in scored(one, "translation_text")])


def test_a_long_line(folder_of, pipe_of, run):
    folder = folder_of("encoder-decoder")
    pipe = pipe_of("translation", folder)
    given = f"A cat.\n{LONG}\n"

    def told(*words) -> tuple[int, list[str], str]:
        code, out, errors = run("translate", folder, *words, given=given)
        return code, out.splitlines(), errors

    code, lines, errors = told()
    assert (code, lines[1]) == (0, pipe(LONG)[0]["translation_text"])
    assert f"longer than the {POSITIONS} tokens that the model reads, and translated in sentences: 1\n" in errors
    code, lines, errors = told("--long", "cut")
    assert (code, lines[1]) == (0, pipe(LONG, truncation=True)[0]["translation_text"])
    assert "and cut off: 1\n" in errors
    count = len(pipe.tokenizer(LONG)["input_ids"])
    reason = f"standard input, line 2: {count} tokens, more than the {POSITIONS} that there is room for\n"
    for words in (("--long", "refuse"), ("--n-best", "2")):  # translations of sentences cannot be combined
        code, lines, errors = told(*words)
        assert (code, lines) == (2, []) and errors.endswith(reason)


def test_sentences(folder_of, pipe_of, run):
    folder = folder_of("encoder-decoder")
    two = "A cat. Two dogs run."
    expected = pipe_of("translation", folder)(two, split_sentences=True)[0]["translation_text"]
    assert run("translate", folder, "--sentences", "--quiet", given=two) == (0, f"{expected}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--n-best", "3", "--beams", "2"), "--n-best: 3 must be at most --beams, 2"),
        (("--n-best", "2", "--sentences"), "--n-best and --sentences exclude each other"),
        (("--sentences", "--long", "cut"), "--long: cut and --sentences exclude each other"),
        (("--beams", "0"), "--beams: 0 must be at least 1"),
        (("--length-penalty", "nan"), "--length-penalty: nan must be a finite number"),
        (("--long", "drop"), "invalid choice: 'drop'"),
    ],
)
def test_what_translate_refuses(run, words, message):
    code, out, told = run("translate", "no/model", *words)
    assert (code, out) == (2, "") and message in told


def test_generate(folder_of, pipe_of, run):
    folder = folder_of("decoder", VanillaForCausalLM)
    pipe = pipe_of("text-generation", folder)
    for words, settings in (
        (("--max-new-tokens", "6"), {"max_new_tokens": 6}),
        (("--n-best", "2"), {"max_new_tokens": 50, "num_beams": 2, "num_return_sequences": 2}),
    ):
        texts = ["A cat.", "Two dogs"] if words[0] == "--n-best" else REAL
        expected = [
            " ".join(a["generated_text"].splitlines())
            for text in texts
            for a in pipe(text, do_sample=False, **settings)
        ]
        code, out, _ = run("generate", folder, *words, given="".join(f"{text}\n" for text in texts))
        assert (code, out.splitlines()) == (0, expected)
    code, out, told = run("generate", folder, given=f"{LONG}\n")
    room = POSITIONS - 49  # the last of 50 new tokens is not read
    assert (code, out) == (2, "") and told.endswith(f"more than the {room} that there is room for\n")


def test_what_is_drawn_depends_on_the_seed(folder_of, run):
    folder = folder_of("decoder", VanillaForCausalLM)
    drawn = [run("generate", folder, "--sample", "--n-best", 3, "--seed", s, given="A cat.\n")[1] for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0].splitlines())) == 3
    for words, message in (
        (("--sample", "--beams", "2"), "--beams and --sample exclude each other"),
        (("--temperature", "0"), "--temperature: 0.0 must be above 0"),
        (("--n-best", "3", "--beams", "2"), "--n-best: 3 must be at most --beams, 2"),
    ):
        code, _, told = run("generate", folder, *words)
        assert code == 2 and message in told


def test_fill(folder_of, pipe_of, run):
    folder = folder_of("encoder", VanillaForMaskedLM)
    pipe = pipe_of("fill-mask", folder)
    texts = ["Two <mask> run in Berlin.", "A <mask>."]
    expected = [line for text in texts for line in scored(pipe(text, top_k=3), "sequence")]
    code, out, _ = run("fill", folder, "--n-best", 3, "--scores", given="\n".join(texts))
    assert code == 0
    same_lines(out.splitlines(), expected)
    code, out, told = run("fill", folder, given="A <mask>.\n\n<mask> <mask>\n")
    assert (code, out) == (2, "") and told.endswith("line 3: 2 times <mask>, expected once\n")


def test_classify(folder_of, pipe_of, run):
    folder = folder_of("encoder", VanillaForSequenceClassification, id2label={0: "good", 1: "bad", 2: "ugly"})
    pipe = pipe_of("text-classification", folder)
    code, out, _ = run("classify", folder, given=f"A cat.\n\n{REAL[1]}\n")
    assert (code, out.splitlines()) == (0, [pipe("A cat.")[0]["label"], "", pipe(REAL[1])[0]["label"]])
    _, out, _ = run("classify", folder, "--n-best", 2, "--scores", given=GIVEN)
    same_lines(out.splitlines(), [line for text in REAL for line in scored(pipe(text, top_k=2), "label")])
    _, out, _ = run("classify", folder, "--long", "cut", given=LONG)
    assert out == pipe(LONG, truncation=True, max_length=POSITIONS)[0]["label"] + "\n"
    code, out, told = run("classify", folder, given=LONG)
    assert (code, out) == (2, "") and "line 1: " in told
