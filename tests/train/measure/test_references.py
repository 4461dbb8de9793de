"""Several references of one source, and the sentences that a summary has to beat."""

import datasets
import pytest
import sacrebleu

from train import metrics
from train.measure import evaluate, references, results, scoring

SENTENCES = ["Attention is all you need.", "We drop recurrence.", "It trains faster."]


@pytest.fixture
def rows():
    """Four rows of three sources: the second has two references, which do not stand side by side."""
    source, target = ["a", "b", "c", "b"], ["A one", "B two", "C three", "B other words"]
    return datasets.Dataset.from_dict({"source": source, "target": target})


@pytest.fixture
def measure(translation, accelerator, monkeypatch):
    """Evaluate texts that were written elsewhere."""
    recipe, _, model, tokenizer = translation

    def function(rows, written: dict[str, str], figures: list[str]):
        def generate(evaluation, encoded, asked):
            return [written[rows["source"][row]] for row in asked]

        monkeypatch.setattr(scoring, "generate", generate)
        return evaluate.evaluate(model, tokenizer, {"test": rows}, recipe, accelerator, "test", figures)

    return function


def test_rows_with_the_same_source_are_its_references(rows):
    gathered = references.by_source(rows)
    assert gathered == {"a": (0, ["A one"]), "b": (1, ["B two", "B other words"]), "c": (2, ["C three"])}


def test_the_best_reference_counts_and_each_source_counts_once(rows, measure):
    """b is right by its second row; c is one word of two off."""
    measured = measure(
        rows, {"a": "A one", "b": "B other words", "c": "C four"}, ["exact_match", "wer", "per", "rouge1"]
    )
    assert measured["exact_match"] == pytest.approx(2 / 3)
    assert measured["wer"] == measured["per"] == pytest.approx(1 / (2 + 3 + 2))
    assert measured["rouge1"] == pytest.approx(100 * (1 + 1 + 1 / 2) / 3)
    signatures = measured.details["signatures"]
    assert signatures["exact_match"] == "sources:3"
    assert signatures["per"].startswith("sources:3|refs:best|")
    assert [sample["source"] for sample in measured.details["samples"]] == ["a", "b", "c"]


def test_bleu_compares_each_row_with_its_own_reference(rows, measure):
    written = {"a": "A one", "b": "B other words", "c": "C four"}
    measured = measure(rows, written, ["bleu", "exact_match"])
    predictions = [written[source] for source in rows["source"]]
    assert measured["bleu"] == pytest.approx(sacrebleu.corpus_bleu(predictions, [rows["target"][:]]).score)
    assert measured.details["signatures"]["bleu"].startswith("nrefs:1|")


def test_a_source_is_translated_once(translation, accelerator, monkeypatch):
    recipe, splits, model, tokenizer = translation
    dates = splits["test"].select([0, 1, 0, 2])
    asked, generate = [], scoring.generate
    monkeypatch.setattr(scoring, "generate", lambda *words: asked.append(words[-1]) or generate(*words))
    measured = evaluate.evaluate(model, tokenizer, {"test": dates}, recipe, accelerator, "test", ["exact_match"])
    whole = evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["exact_match"], limit=3)
    first, second, third = whole.details["predictions"]
    assert measured.details["predictions"] == [first, second, first, third]
    assert asked == [[0, 1, 3], [0, 1, 2]]


def test_single_references_have_the_signatures_that_they_had(rows, measure):
    single = rows.select([0, 1, 2])
    measured = measure(single, {"a": "A one", "b": "B two", "c": "C"}, ["exact_match", "bleu"])
    assert set(measured.details["signatures"]) == {"bleu"}


def test_a_summary_stands_beside_the_first_sentence_and_a_random_one(measure, tmp_path):
    source = " ".join(SENTENCES)
    rows = datasets.Dataset.from_dict({"source": [source], "target": [SENTENCES[0]]})
    measured = measure(rows, {source: "It trains."}, ["rouge1", "rougeL"])
    baselines = measured.details["baselines"]
    assert baselines["lead-1"] == {"rouge1": 100.0, "rougeL": 100.0}
    scorer = metrics.load("rouge")
    possible = [scorer.compute(predictions=[one], references=[[SENTENCES[0]]])["rouge1"] for one in SENTENCES]
    assert baselines["random sentence"]["rouge1"] in possible
    record = {"settings": {"examples": 1, "signatures": {}}, "split": "test", "metrics": dict(measured)}
    assert "  lead-1: rouge1 100.00, rougeL 100.00" in results.table(record | {"baselines": baselines}).splitlines()


def test_random_sentences_come_from_all_places_and_stay_the_same():
    sources = [" ".join(SENTENCES)] * 40
    drawn = references.baselines(sources)["random sentence"]
    assert {*drawn} == {*SENTENCES}
    assert drawn == references.baselines(sources)["random sentence"]
    assert references.baselines(["no end mark"]) == {"lead-1": ["no end mark"], "random sentence": ["no end mark"]}
