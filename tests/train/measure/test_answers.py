"""Answering from its file to its figures: SQuAD's rules by hand and by transformers, and the answers of the pipeline."""

import itertools
import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from evaluation import measured_by_two
from transformers import pipeline

from train import metrics as scorers
from train.__main__ import main
from train.data.splits import load_splits
from train.data.windows import OUTSIDE
from train.measure import answers
from train.measure.evaluate import evaluate
from train.metrics.answers import normalized, word_f1
from train.model import loading
from train.settings.reading import load_recipe

NAMES = ["Kim", "Lee", "Park", "Choi"]
CITIES = ["Seoul", "Busan", "Daegu"]
FIGURES = ["loss", "answer_exact_match", "answer_f1", "span_f1"]


def rows(count, seed):
    """Make sentences about who lives where; every third question has no answer."""
    draw, made = random.Random(seed), []
    for number in range(count):
        name, city = draw.choice(NAMES), draw.choice(CITIES)
        context = f"{'so ' * draw.randint(0, 3)}{name} lives in {city} ."
        question, answer = draw.choice([("who", name), ("where", city)])
        made.append({"context": context, "question": question, "answer": answer, "start": context.index(answer)})
        if number % 3 == 0:
            made[-1] |= {"question": "when", "answer": None, "start": None}
    return made


@pytest.fixture
def answering(tmp_path, write_recipe):
    """Return the path of a recipe that learns from 90 questions and is judged on 13."""
    (tmp_path / "data").mkdir()
    for name, count in (("train", 90), ("validation", 13)):
        (tmp_path / "data" / f"{name}.json").write_text(json.dumps(rows(count, count)))
    files = {"train": "train.json", "validation": "validation.json", "source_column": None, "target_column": None}
    return write_recipe(
        "answers",
        task="answering",
        data=files | {"window": 12, "stride": 3},
        tokenizer={"kind": "bpe", "vocab_size": 300},
        batch={"max_tokens": 256},
        loop={"max_steps": 80, "eval_every": 40},
        eval={"split": "validation", "metrics": FIGURES, "during_training": [*FIGURES], "best_metric": "span_f1"},
    )


TEXTS = [
    "",
    "the",
    "The cat",
    "a cat.",
    "cat sat",
    "CAT!",
    "나는 학교에 간다",
    "나는 학교에",
    "An  7:30 pm,",
    "7:30 pm",
    "théâtre",
    "a.m.",
]
PAIRS = list(itertools.product(TEXTS, TEXTS))


def test_answers_are_compared_as_transformers_compares_them():
    """144 pairs with empty answers, articles, punctuation, accents and Hangul, against the script that it had until 5.17."""
    theirs = pytest.importorskip("transformers.data.metrics.squad_metrics")
    for guess, right in PAIRS:
        assert normalized(guess) == theirs.normalize_answer(guess)
        assert (normalized(guess) == normalized(right)) == theirs.compute_exact(right, guess)
        assert word_f1(guess, right) == pytest.approx(theirs.compute_f1(right, guess))


@pytest.mark.parametrize(
    ("guess", "right", "f1"),
    [
        ("The cat.", "a CAT", 1.0),  # neither articles nor marks nor case
        ("cat sat", "cat", 2 / 3),  # 2 P R / (P + R), P = 1/2, R = 1
        ("cat cat", "cat", 2 / 3),  # a word is shared as often as both have it
        ("나는 학교에", "나는 학교에 간다", 4 / 5),
        ("", "the", 1.0),
        ("", "cat", 0.0),
        ("dog", "cat", 0.0),
        ("a.m.", "am", 1.0),
    ],
)
def test_the_f1_of_an_answer_by_hand(guess, right, f1):
    assert word_f1(guess, right) == pytest.approx(f1)
    assert word_f1(right, guess) == pytest.approx(f1)


def test_figures_by_hand():
    predictions = [
        {"text": text, "start": start} for text, start in [("cat", 4), ("cat", 9), ("", 0), ("dog", 1), ("", 0)]
    ]
    references = [
        {"texts": ["the cat", "cat"], "starts": [0, 4]},  # right in every way
        {"texts": ["cat"], "starts": [4]},  # the right word at another place
        {"texts": [], "starts": []},  # rightly none, which earns no F1 of spans
        {"texts": [], "starts": []},  # wrongly one
        {"texts": ["cat"], "starts": [0]},  # wrongly none
    ]
    result = scorers.load("answers").compute(predictions=predictions, references=references)
    assert result["answer_exact_match"] == result["answer_f1"] == pytest.approx(3 / 5)
    assert result["span_f1"] == pytest.approx(2 * 1 / (3 + 3))  # one right, three given, three there
    assert result["no_answer"] == {"answer_exact_match": 2 / 5, "answer_f1": 2 / 5, "span_f1": 0.0}


@pytest.mark.parametrize(("context", "answer"), [("서울에서 산다", "서울"), ("กรุงเทพอยู่ที่นี่", "กรุงเทพ")])
def test_an_answer_before_a_particle_is_measured_as_it_is(context, answer):
    start = context.index(answer)
    places = list(range(-1, len(context)))  # a token for each character, and one before them
    origins = {"row": np.array([0]), "first": [places], "last": [[place + 1 for place in places]]}
    origins["first"][0][0] = origins["last"][0][0] = OUTSIDE
    logits = np.full((1, 2, len(places)), -20.0)
    logits[0, 0, start + 1] = logits[0, 1, start + len(answer)] = 20.0
    rows = Dataset.from_dict({"context": [context]})
    found = answers.best(rows, SimpleNamespace(origins=origins), list(logits), 30, may_be_empty=True)
    assert [one["answer"] for one in found] == [answer]


def test_a_run_learns_and_its_answers_are_those_of_the_pipeline(answering, fit, accelerator, capsys):
    run = fit(answering)
    record = json.loads((run / "results.json").read_text())
    assert record["metrics"]["span_f1"] > 0.9
    assert record["settings"]["examples"] == 13
    assert record["settings"]["signatures"]["span_f1"] == "without any answer 0.0000"
    asked = load_splits(load_recipe(answering))["validation"]
    qa = pipeline("question-answering", model=str(run / "final"), trust_remote_code=True)
    options = {"max_seq_len": 12, "doc_stride": 3, "max_answer_len": 30, "handle_impossible_answer": True}
    answers = [qa(question=one["question"], context=one["context"], **options)["answer"] for one in asked]
    assert [one["prediction"] for one in record["samples"]] == answers
    right = sum(answer == (one["answer"] or [""])[0] for answer, one in zip(answers, asked, strict=True))
    assert record["metrics"]["answer_exact_match"] == pytest.approx(right / 13)
    assert main(["evaluate", str(run)]) == 0
    assert "span_f1: without any answer 0.0000" in capsys.readouterr().out


def test_a_stopped_run_goes_on_to_the_same_weights(answering, fit, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    steps = ["--loop.max_steps=6", "--loop.save_every=3"]
    fit(answering, *steps, "--run_dir", str(whole))
    fit(answering, "--loop.save_every=3", "--loop.max_steps=3", "--run_dir", str(part))
    (part / "finished.json").unlink()
    fit(answering, *steps, "--run_dir", str(part))
    assert (whole / "final" / "model.safetensors").read_bytes() == (part / "final" / "model.safetensors").read_bytes()


def test_two_processes_measure_what_one_measures(answering, fit, starter, tmp_path):
    run = fit(answering, "--loop.max_steps=5")
    two = measured_by_two(starter, tmp_path, answering, run)
    assert two == pytest.approx(json.loads((run / "results.json").read_text())["metrics"])


def test_figures_do_not_depend_on_the_batches(answering, fit, accelerator):
    run = fit(answering, "--loop.max_steps=5")
    model, tokenizer = loading.load(run / "final", "answering", run)
    results = []
    for tokens in (12, 4096):
        recipe = load_recipe([str(answering), f"--eval.batch_tokens={tokens}"])
        results.append(dict(evaluate(model, tokenizer, load_splits(recipe), recipe, accelerator, "validation")))
    assert results[0] == pytest.approx(results[1])


def test_the_plan_counts_windows(answering, capsys):
    assert main(["plan", str(answering), "--gpu", "t4"]) == 0
    out = capsys.readouterr().out
    assert "answering, encoder" in out
