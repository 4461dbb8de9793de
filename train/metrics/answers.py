"""Exact match and F1 of answers by SQuAD's rules, and micro F1 of exact spans."""

import collections
import re
import string

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: list of {"text", "start"}: what was answered and where it begins; the text is empty for no answer.
    references: list of {"texts", "starts"}: the answers that are right, none for a question without an answer.
Returns:
    answer_exact_match, answer_f1 (0-1): mean over all questions of the best over the right answers, by SQuAD's rules: small
        letters, without punctuation, without a, an, the (Rajpurkar et al. 2016, sec. 6.1). Where there is no answer, only none is
        right (2018).
    span_f1 (0-1): 2 TP / (spans given + spans that are there), a span being right where all its characters are those of a right
        one. No answer where there is none earns nothing.
    no_answer: dict of the same figures of a model that never answers.
"""


def normalized(text: str) -> str:
    """Return an answer as SQuAD compares it."""
    kept = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def word_f1(guess: str, right: str) -> float:
    """Return the F1 of the words that two answers share; 1 where both are empty."""
    guessed, true = normalized(guess).split(), normalized(right).split()
    if not guessed or not true:
        return float(guessed == true)
    common = sum((collections.Counter(guessed) & collections.Counter(true)).values())
    return 2 * common / (len(guessed) + len(true))


def figures(predictions: list, references: list) -> dict[str, float]:
    """Return the three figures."""
    exact, shared, hits, given, there = 0, 0.0, 0, 0, 0
    for guess, right in zip(predictions, references, strict=True):
        spans = set(zip(right["texts"], right["starts"], strict=True))
        # An answer of which nothing is left, such as "the", counts as none, as in SQuAD's own script.
        texts = [text for text in right["texts"] if normalized(text)] or [""]
        exact += any(normalized(guess["text"]) == normalized(text) for text in texts)
        shared += max(word_f1(guess["text"], text) for text in texts)
        given += bool(guess["text"])
        there += bool(spans)
        hits += bool(guess["text"]) and (guess["text"], guess["start"]) in spans
    count = max(len(predictions), 1)
    return {
        "answer_exact_match": exact / count,
        "answer_f1": shared / count,
        "span_f1": 2 * hits / max(given + there, 1),
    }


class Answers(evaluate.Metric):
    """Figures of answers in a text."""

    def _info(self):
        text, number = datasets.Value("string"), datasets.Value("int64")
        predictions = {"text": text, "start": number}
        references = {"texts": datasets.List(text), "starts": datasets.List(number)}
        return evaluate.MetricInfo(
            description="Exact match and F1 of answers, and micro F1 of exact spans.",
            citation="Rajpurkar et al. 2016, SQuAD; Rajpurkar et al. 2018, Know What You Don't Know",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": predictions, "references": references}),
        )

    def _compute(self, predictions, references):
        nothing = [{"text": "", "start": 0}] * len(references)
        return figures(predictions, references) | {"no_answer": figures(nothing, references)}
