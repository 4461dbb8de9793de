"""Evaluation: the figures of a model on a split, and of a folder on disk with its results.json."""

import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list, gather_object

from train import metrics as scorers
from train.data import encoding, examples
from train.data.splits import label_names
from train.errors import UserError
from train.measure import answers as spans
from train.measure import references, scoring
from train.measure.scoring import Evaluation
from train.processes import ranks
from train.settings.rules import bleu_tokenizer
from train.tasks import ANSWERS, CLASSIFICATION, ENTITIES, FIGURES, GENERATION, PERPLEXITIES, TASKS, figures_rule

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from train.settings.recipe import Recipe

SHOWN_SAMPLES = 20
# Tokenizers of BLEU for which a word ends at a space.
BY_SPACES = ("13a", "intl")
MISSED = -1
"""The class of a word for which the model gave none."""
# Modules of train.metrics that have another name than the Hub has for their figures.
MODULES = {"sacrebleu": "bleu"}
logger = logging.getLogger(__name__)


class Results(dict):
    """The figures by name, each a float.

    `details` has the signatures of the scorers, settings, sums and counts, and samples: dicts of source, reference, prediction
    (or text, label, prediction), all of them in the order of the split.
    """

    def __init__(self, values: dict[str, float], details: dict[str, Any]):
        super().__init__(values)
        self.details = details


def evaluate(
    model: "nn.Module",
    tokenizer: "PreTrainedTokenizerBase",
    splits: "dict[str, Dataset]",
    recipe: "Recipe",
    accelerator: "Accelerator",
    split: str,
    metrics: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    epoch: int = 0,
    description: str | None = None,
) -> Results:
    """Measure the wanted figures of a model on one split; every rank calls it and gets the same answer.

    Args:
        model: the model, wrapped by accelerate or not. Its training mode and the random state are left as they were.
        tokenizer: the tokenizer of the model.
        splits: split name -> dataset, from `splits.load_splits`.
        recipe: the whole recipe; its `task`, `eval` and `batch` sections are read.
        accelerator: the `accelerate.Accelerator` of this process.
        split: name of the split to score.
        metrics: names of the figures; None = the recipe's `eval.metrics`.
        limit: score the first rows only; None = the recipe's `eval.limit`.
        epoch: seeds the corruption of a masked model; the same number gives the same corruption.
        description: label of the progress bar.

    Raises:
        UserError: no such split, or a figure that has no meaning for the task.
        GenerationError: a figure of generated texts is wanted, and `generate` is broken.
    """
    figures = check_metrics(recipe.eval.metrics if metrics is None else metrics, recipe.task)
    rows, encoded = encoded_split(splits, split, recipe.eval.limit if limit is None else limit, tokenizer, recipe)
    if accelerator.is_main_process:
        _warn_of_unknown(encoded, tokenizer, split)
    task = TASKS[recipe.task]
    if not task.cuts_blocks and not task.has_spans and len(encoded) != len(rows):
        raise UserError(
            f"data.too_long: {recipe.data.too_long!r} left rows of split {split!r} out; must be truncate here"
        )
    module = accelerator.unwrap_model(model)
    evaluation = Evaluation(module, tokenizer, recipe, accelerator, description or f"evaluate {split}")
    values, details = {}, {"split": split, "examples": len(encoded), "signatures": {}, "samples": []}
    with scoring.undisturbed(module):
        if set(figures) & set(GENERATION):
            scoring.check_generate(module, accelerator.mixed_precision != "no")
        if set(figures) - set(GENERATION):
            values |= _predict(evaluation, rows, encoded, figures, epoch, details)
        if set(figures) & set(GENERATION):
            several = references.by_source(rows)
            written = scoring.generate(evaluation, encoded, [row for row, _ in several.values()])
            texts = dict(zip(several, written, strict=True))
            values |= _compare(evaluation, texts, rows, figures, details)
    return Results({name: float(values[name]) for name in figures}, details)


def _predict(
    evaluation: Evaluation,
    rows: "Dataset",
    encoded: examples.Examples,
    figures: Sequence[str],
    epoch: int,
    details: dict[str, Any],
) -> dict[str, float]:
    """Return the figures of one pass over the rows: of the likelihood, and of what the model answers."""
    totals, answers = scoring.score(evaluation, encoded, epoch)
    details["sums"] = totals
    values, task = _likelihood(evaluation, totals, rows, figures), TASKS[evaluation.recipe.task]
    if task.has_classes:
        values |= _classification(evaluation, answers, rows, details)
    if task.has_tags:
        values |= _tagging(evaluation, answers, rows, figures, details)
    if task.has_spans:
        values |= _answering(evaluation, answers, rows, encoded, figures, details)
    return values


def check_metrics(names: Sequence[str], task: str) -> list[str]:
    """Return the names as a list, or say which of them means nothing for this task.

    Raises:
        UserError: names the figure and those that are possible.
    """
    for name in names:
        if name not in TASKS[task].figures:
            raise UserError(f"eval.metrics: {name!r} {figures_rule(task)}")
    return list(names)


def encoded_split(
    splits: "dict[str, Dataset]", split: str, limit: int | None, tokenizer: "PreTrainedTokenizerBase", recipe: "Recipe"
) -> tuple["Dataset", examples.Examples]:
    """Return the first `limit` rows of a split, as they are and encoded.

    A loop evaluates one split many times: what the last call made of the very same rows is kept.

    Raises:
        UserError: no such split.
    """
    if splits.get(split) is None:
        present = ", ".join(name for name, rows in splits.items() if rows is not None) or "none"
        raise UserError(f"split {split!r}: the data of this recipe has no such split (it has: {present})")
    rows = splits[split]
    rows = rows if limit is None or limit >= len(rows) else rows.select(range(limit))
    # Datasets are immutable, so content and transformations are known by their fingerprint.
    key = (rows._fingerprint, len(rows), id(tokenizer), repr((recipe.task, recipe.data, recipe.batch)))
    if _LAST_ENCODED.get("key") != key:
        # The tokenizer is kept beside its id, so that no other object can come to have that id.
        encoded = encoding.encode(rows, tokenizer, recipe)
        _LAST_ENCODED.update(key=key, encoded=encoded, tokenizer=tokenizer)
    return rows, _LAST_ENCODED["encoded"]


_LAST_ENCODED: dict[str, Any] = {}


def _warn_of_unknown(encoded: examples.Examples, tokenizer: "PreTrainedTokenizerBase", split: str) -> None:
    """Warn once of tokens read that the model never learnt: they all mean the same to it."""
    ids = encoded.stream if isinstance(encoded, examples.Blocks) else encoded.sides["input_ids"].flat
    if tokenizer.unk_token_id is not None and (count := int((ids == tokenizer.unk_token_id).sum())):
        _warn(f"split {split!r}: {count:,} of the tokens read are unknown to the model")


def _likelihood(
    evaluation: Evaluation, totals: dict[str, float], rows: "Dataset", figures: Sequence[str]
) -> dict[str, float]:
    """Return loss, share of labels that are the first choice, and the perplexities where one is wanted."""
    recipe, accelerator = evaluation.recipe, evaluation.accelerator
    nll, tokens = totals["nll"], int(totals["tokens"])
    if not tokens:
        raise UserError(f"{recipe.name}: no token to predict in these {len(rows)} rows; there must be at least one")
    values = {"loss": nll / tokens, "masked_accuracy": totals["hits"] / tokens}
    if set(figures) & set(PERPLEXITIES):
        if "word_perplexity" in figures:
            texts = rows[TASKS[recipe.task].scored_column][:]
            _warn_of_unspaced(texts, "word_perplexity", "compare bits_per_byte instead", accelerator)
        values |= _on_main(
            accelerator, "perplexity", predictions=[nll], references=[tokens], **_text_size(rows, recipe)
        )
    return values


def _text_size(rows: "Dataset", recipe: "Recipe") -> dict[str, int]:
    """Count the white-space separated words and the UTF-8 bytes that a model of whole texts predicted.

    A row ends with a line end, which the model predicts too: it counts as one word and one byte, as in the usual
    perplexities of WikiText-2. A file taken as it stands has its line ends in its text.
    """
    column = TASKS[recipe.task].scored_column
    texts = rows[column][:] if column else []
    ends = 0 if recipe.data.text_unit == "file" else len(texts)
    spaced = sum(len(text.split()) for text in texts) + ends
    return {"words": spaced, "bytes": sum(len(text.encode("utf-8")) for text in texts) + ends}


def _warn_of_unspaced(texts: list[str], figure: str, remedy: str, accelerator: "Accelerator") -> None:
    """Warn once of a figure over words where most lines hold no space, so that a whole line counts as one word."""
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    unspaced = sum(len(line.split()) == 1 for line in lines)
    if accelerator.is_main_process and 2 * unspaced > len(lines):
        _warn(f"{figure}: {unspaced} of {len(lines)} lines hold no space, so each counts as one word: {remedy}")


@functools.cache
def _warn(message: str) -> None:
    """Log a warning once: a run evaluates the same split many times."""
    logger.warning("%s", message)


def _gathered(answers: scoring.Answers, details: dict[str, Any]) -> list[Any]:
    """Return what all processes answered, in the order of the examples."""
    by_id = dict(gather_object(list(answers.items())))
    scoring.check_count(len(by_id), details["examples"])
    return [by_id[number] for number in range(len(by_id))]


def _classification(
    evaluation: Evaluation, answers: scoring.Answers, rows: "Dataset", details: dict[str, Any]
) -> dict[str, float]:
    """Return accuracy and macro F1 over the classes all processes predicted."""
    predicted, true = _gathered(answers, details), rows["label"][:]
    values = {}
    for name in CLASSIFICATION:
        values |= _on_main(evaluation.accelerator, name, predictions=predicted, references=true)
    texts, names = rows[:SHOWN_SAMPLES]["text"], rows.features["label"].names
    details["samples"] = [
        {"text": text, "label": names[label], "prediction": names[guess]}
        for text, label, guess in zip(texts, true, predicted, strict=False)
    ]
    return values


def _tagging(
    evaluation: Evaluation,
    answers: scoring.Answers,
    rows: "Dataset",
    figures: Sequence[str],
    details: dict[str, Any],
) -> dict[str, float]:
    """Return the accuracy of all words of a split and, where they are wanted, the figures of entities.

    A word that the model has not read, because its text was cut, is missed: it belongs to no entity.
    """
    names, found, true = label_names(rows), _gathered(answers, details), rows["tags"][:]
    guesses = [[one.get(word, MISSED) for word in range(len(tags))] for one, tags in zip(found, true, strict=True)]
    flat = [[number for row in table for number in row] for table in (guesses, true)]
    result = _on_main(evaluation.accelerator, "accuracy", predictions=flat[0], references=flat[1])
    values = {"word_accuracy": result["accuracy"]}
    named = [[[names[one] if one != MISSED else "O" for one in row] for row in table] for table in (guesses, true)]
    if set(figures) & set(ENTITIES):
        values |= _on_main(evaluation.accelerator, "entities", predictions=named[0], references=named[1])
    details["samples"] = [
        {"text": " ".join(words), "label": " ".join(right), "prediction": " ".join(guess)}
        for words, right, guess in zip(rows[:SHOWN_SAMPLES]["words"], named[1], named[0], strict=False)
    ]
    return values


def _answering(
    evaluation: Evaluation,
    answers: scoring.Answers,
    rows: "Dataset",
    encoded: examples.Examples,
    figures: Sequence[str],
    details: dict[str, Any],
) -> dict[str, float]:
    """Return the figures of the best spans, and those of a model that never answers, where they are wanted."""
    logits = _gathered(answers, details)
    details["examples"] = len(rows)
    if not set(figures) & set(ANSWERS):
        return {}
    may_be_empty = any(not answer for answer in rows["answer"][:])
    found = spans.best(rows, encoded, logits, evaluation.recipe.eval.answer_tokens, may_be_empty)
    right = [{"texts": one["answer"], "starts": one["start"]} for one in rows.select_columns(["answer", "start"])]
    guesses = [{"text": one["answer"], "start": one["start"]} for one in found]
    values = _on_main(evaluation.accelerator, "answers", predictions=guesses, references=right)
    for name, value in values.pop("no_answer").items():
        if name in figures:
            details["signatures"][name] = f"without any answer {value:.4f}"
    details["samples"] = [
        {
            "text": row["context"],
            "question": row["question"],
            "answer": " / ".join(row["answer"]),
            "prediction": one["answer"],
        }
        for row, one in zip(rows.select(range(min(SHOWN_SAMPLES, len(rows)))), found, strict=False)
    ]
    return values


def _compare(
    evaluation: Evaluation, answers: dict[str, str], rows: "Dataset", figures: Sequence[str], details: dict[str, Any]
) -> dict[str, float]:
    """Score what was written for each source against its references and keep the first few to look at."""
    several, targets, tokenize = references.by_source(rows), rows["target"][:], bleu_tokenizer(evaluation.recipe)
    predictions = [answers[source] for source in rows["source"][:]]
    accelerator = evaluation.accelerator
    if {"bleu", "bleu_lowercase"} & set(figures) and tokenize in BY_SPACES:
        remedy = "name the language in data.language, such as [en, zh], or set eval.bleu_tokenizer, such as char"
        _warn_of_unspaced(targets, f"bleu with the tokenizer {tokenize}", remedy, accelerator)
    best_of = {"predictions": [*answers.values()], "references": [right for _, right in several.values()]}
    values, computed = {}, {}
    for name in (name for name in figures if name in GENERATION):
        figure, is_lower = FIGURES[name], name == "bleu_lowercase"
        module = MODULES.get(figure.metric, figure.metric)
        if (module, is_lower) not in computed:
            options = {"lowercase": is_lower, "tokenize": tokenize} if module == "bleu" else {}
            compared = best_of if figure.takes_best else {"predictions": predictions, "references": targets}
            computed[module, is_lower] = _on_main(accelerator, module, **compared, **options)
        result = computed[module, is_lower]
        values[name] = result.get(name, result.get(module))
        counted = [f"sources:{len(several)}"] if figure.takes_best and len(several) < len(rows) else []
        if signature := "|".join([*counted, *([result["signature"]] if "signature" in result else [])]):
            details["signatures"][name] = signature
    if ("rouge", False) in computed:
        for name, sentences in references.baselines([*several]).items():
            result = _on_main(accelerator, "rouge", predictions=sentences, references=best_of["references"])
            details.setdefault("baselines", {})[name] = {
                figure: result[figure] for figure in values if figure in result
            }
    details["length_penalty"] = scoring.LENGTH_PENALTY_FORMS[evaluation.recipe.eval.length_penalty_form]
    details["predictions"] = predictions
    details["samples"] = [
        {"source": source, "reference": right[0], "prediction": answers[source]}
        for source, (_, right) in several.items()
    ][:SHOWN_SAMPLES]
    return values


def _on_main(accelerator: "Accelerator", name: str, **inputs: Any) -> dict[str, Any]:
    """Compute a metric on the main process and tell the others: its script is copied to a cache that ranks would share."""
    result = ranks.on_main(accelerator, lambda: scorers.load(name).compute(**inputs))
    return broadcast_object_list([result])[0]
