"""Tagging from its file to its figures: by hand, by seqeval's rules, on one and two processes, and by the stock pipeline."""

import json
import random

import pytest
import torch
from evaluation import measured_by_two

from train import metrics as scorers
from train.__main__ import main
from train.data import encoding
from train.data.splits import load_splits
from train.measure.evaluate import evaluate
from train.settings.reading import load_recipe

WORDS = {
    "dog": "O",
    "cat": "O",
    "Seoul": "B-LOC",
    "Busan": "B-LOC",
    "Kim": "B-PER",
    "Lee": "B-PER",
    "Minsu": "I-PER",
    "runs": "O",
}


def write(path, count, seed):
    """Write sentences whose labels follow from their words."""
    draw = random.Random(seed)
    rows = [
        "".join(f"{word}\t{WORDS[word]}\n" for word in draw.choices(list(WORDS), k=draw.randint(1, 6)))
        for _ in range(count)
    ]
    path.write_text("\n".join(rows), encoding="utf-8")


@pytest.fixture
def tagging(tmp_path, write_recipe):
    """Return the path of a recipe that learns from 80 sentences and is judged on 13."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train.conll", 80, 1)
    write(tmp_path / "data" / "validation.conll", 13, 2)
    files = {"train": "train.conll", "validation": "validation.conll", "source_column": None, "target_column": None}
    figures = ["loss", "word_accuracy", "entity_precision", "entity_recall", "entity_f1"]
    return write_recipe(
        "tags",
        task="tagging",
        data=files,
        tokenizer={"kind": "bpe", "vocab_size": 300},
        batch={"max_tokens": 128},
        loop={"max_steps": 60, "eval_every": 30},
        eval={"split": "validation", "metrics": figures, "during_training": [*figures], "best_metric": "entity_f1"},
    )


# The examples of the README of seqeval, and a conlleval case: an I- that follows no entity of its name begins one.
CASES = [
    (
        [["O", "O", "B-MISC", "I-MISC", "B-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]],
        [["O", "O", "O", "B-MISC", "I-MISC", "B-MISC", "O"], ["B-PER", "I-PER", "O"]],
        (1 / 3, 1 / 3),
    ),
    ([["B-A", "I-A", "O", "B-B"]], [["I-A", "I-A", "O", "I-C"]], (1 / 2, 1 / 2)),
    ([["B-A", "O", "B-A"]], [["B-A", "O", "O"]], (1.0, 1 / 2)),
    ([["B-A"]], [["O"]], (0.0, 0.0)),
    ([["O"]], [["O"]], (0.0, 0.0)),
]


@pytest.mark.parametrize(("true", "guess", "figures"), CASES)
def test_entities_are_right_as_a_whole_or_wrong(true, guess, figures):
    result = scorers.load("entities").compute(predictions=guess, references=true)
    precision, recall = figures
    assert result["entity_precision"] == pytest.approx(precision)
    assert result["entity_recall"] == pytest.approx(recall)
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert result["entity_f1"] == pytest.approx(harmonic)


def test_a_run_learns_is_measured_by_hand_and_loads_in_the_stock_pipeline(tagging, fit, accelerator):
    run = fit(tagging)
    record = json.loads((run / "results.json").read_text())
    assert record["metrics"]["entity_f1"] > 0.9
    config = json.loads((run / "final" / "config.json").read_text())
    assert config["id2label"] == {str(number): name for number, name in enumerate(sorted(set(WORDS.values())))}
    # By hand: each sentence alone, the class at the first token of each word.
    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

    model = AutoModelForTokenClassification.from_pretrained(run / "final").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "final")
    rows = load_splits(load_recipe(tagging))["validation"]
    hits, nll, count = 0, 0.0, 0
    for words, tags in zip(rows["words"], rows["tags"], strict=True):
        inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        owners = inputs.word_ids()
        with torch.inference_mode():
            logits = model(**inputs).logits[0]
        places = [owners.index(number) for number in range(len(words))]
        hits += int((logits[places].argmax(-1) == torch.tensor(tags)).sum())
        nll += float(torch.nn.functional.cross_entropy(logits[places], torch.tensor(tags), reduction="sum"))
        count += len(tags)
    assert record["metrics"]["word_accuracy"] == pytest.approx(hits / count)
    assert record["metrics"]["loss"] == pytest.approx(nll / count, rel=1e-4)
    assert record["samples"][0]["text"] == " ".join(rows[0]["words"])
    names = [WORDS[word] for word in rows[0]["words"]]
    assert record["samples"][0]["label"] == " ".join(names)
    tagger = pipeline("token-classification", model=str(run / "final"), aggregation_strategy="first")
    text = "dog Lee Minsu runs Busan"
    assert [(one["entity_group"], text[one["start"] : one["end"]].strip()) for one in tagger(text) if one["end"]] == [
        ("PER", "Lee Minsu"),
        ("LOC", "Busan"),
    ]


def test_a_stopped_run_goes_on_to_the_same_weights_and_figures(tagging, fit, tmp_path):
    whole = fit(tagging, "--loop.max_steps=8", "--run_dir", str(tmp_path / "whole"))
    part = str(tmp_path / "part")
    steps = ["--loop.max_steps=8", "--loop.save_every=4", "--run_dir", part]
    fit(tagging, *steps[1:], "--loop.max_steps=4", "--optim.warmup_steps=1")
    (tmp_path / "part" / "finished.json").unlink()
    fit(tagging, *steps)
    for name in ("final/model.safetensors",):
        assert (whole / name).read_bytes() == (tmp_path / "part" / name).read_bytes()


def test_words_that_were_cut_off_are_missed(tagging, fit, accelerator, tmp_path):
    from train.model import loading

    run = fit(tagging)
    recipe = load_recipe([str(tagging), "--data.too_long=truncate", "--model.max_position_embeddings=4"])
    model, tokenizer = loading.load(run / "final", "tagging", run)
    splits = load_splits(recipe)
    result = evaluate(model, tokenizer, splits, recipe, accelerator, "validation")
    words = sum(map(len, splits["validation"]["words"]))
    encoded = encoding.encode(splits["validation"], tokenizer, recipe)
    read = int((encoded.answers["labels"].flat != -100).sum())
    assert read < words
    assert result["word_accuracy"] <= read / words
    assert result.details["sums"]["tokens"] == read


def test_two_processes_measure_what_one_measures(tagging, fit, starter, tmp_path):
    run = fit(tagging, "--loop.max_steps=5")
    two = measured_by_two(starter, tmp_path, tagging, run)
    one = json.loads((run / "results.json").read_text())["metrics"]
    assert two == pytest.approx(one)


def test_the_words_of_the_command_line(tagging, fit, capsys):
    assert main(["plan", str(tagging), "--gpu", "t4"]) == 0
    assert "tagging, encoder" in capsys.readouterr().out
    run = fit(tagging, "--loop.max_steps=3")
    assert main(["evaluate", str(run)]) == 0
    assert "entity_f1" in capsys.readouterr().out
    content = (run.parent / "data" / "validation.conll").read_text().replace("B-LOC", "B-CITY")
    (run.parent / "data" / "validation.conll").write_text(content)
    assert main(["evaluate", str(run)]) == 2
    assert "label 'B-CITY' must be one of the training data's 4: B-LOC, B-PER, I-PER, O" in capsys.readouterr().err
