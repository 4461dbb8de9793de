"""What a start prints of its data, before anything is trained: the first row of each split as it was understood, and doubts."""

import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from train.data.splits import label_names
from train.errors import MOST_QUOTED, quoted
from train.tasks import TASKS

LABELS = {task.label_column for task in TASKS.values()}

if TYPE_CHECKING:
    from datasets import Dataset

    from train.settings.recipe import Recipe

_COMPARED = 1000  # rows, from the start of a split
# Names that columns have and texts are not: those of this project, of data sets, and of languages.
_NAMES = frozenset(
    "source target src tgt trg text texts label labels sentence sentence1 sentence2 document content comment review title "
    "input output id idx index class category sentiment translation question answer english korean german french japanese "
    "chinese spanish en ko de fr ja zh es en_us ko_kr".split()
)


def lines(splits: "dict[str, Dataset]") -> Iterator[str]:
    """Yield a line for each split: how many rows it has, and its first one."""
    for name, split in splits.items():
        row = ", ".join(f"{column} {quoted(value)}" for column, value in _first(split).items())
        yield f"{name} data: {len(split):,} row(s), the first: {row}"


def doubts(recipe: "Recipe", splits: "dict[str, Dataset]") -> Iterator[str]:
    """Yield a warning for each thing that is rarely meant: one may mean it, so none of them stops a run."""
    starts = {name: split.with_format("arrow")[:_COMPARED] for name, split in splits.items()}  # no copy of long texts
    for one, other in itertools.combinations(splits, 2):
        count = min(len(splits[one]), len(splits[other]), _COMPARED)
        if starts[one].slice(0, count).equals(starts[other].slice(0, count)):
            yield f"{one} and {other} data have the same rows ({count:,} compared): figures on them say nothing of new text"
    if not recipe.data.hub and not recipe.data.generator:
        for name, split in splits.items():
            row = _first(split)
            if _is_header(list(map(str, row.values()))) and not _has_header(recipe, row):
                column, value = next(iter(row.items()))
                example = f"data.{column}_column: {value}"
                yield f"{name} data: the first row looks like a header; name the columns, as in {example}"
    train = starts["train"]
    if TASKS[recipe.task].has_pairs and len(train) > 1 and train["source"].equals(train["target"]):
        yield "train data: source and target are the same text in each row; is one column read twice?"
    if TASKS[recipe.task].has_classes:
        labels = label_names(splits["train"])
        if len(labels) > max(10, len(set(splits["train"]["text"]))):
            yield f"train data: {len(labels):,} labels, more than different texts; are text and label swapped?"
    warmup, steps = recipe.optim.warmup_steps, recipe.loop.max_steps
    if warmup > 1 and warmup >= steps:
        yield f"optim.warmup_steps: {warmup:,} steps, of {steps:,} in all: the learning rate never reaches its peak"


def _first(split: "Dataset") -> dict[str, str]:
    """Return the first row, a text up to what is shown of it, and a label by its name."""
    row, names = split.with_format("arrow")[:1], label_names(split)
    first = {}
    for name in row.column_names:
        value = row[name]
        if pa.types.is_list(value.type):
            value = pc.list_slice(value, 0, MOST_QUOTED)[0].as_py()  # of many words, the first
            first[name] = " ".join(names[one] if name in LABELS else str(one) for one in value)
        elif pa.types.is_integer(value.type):
            first[name] = names[value[0].as_py()]
        else:
            first[name] = pc.utf8_slice_codeunits(value, 0, MOST_QUOTED + 1)[0].as_py()
    return first


def _is_header(values: list[str]) -> bool:
    """Tell names of columns from texts."""
    return all(re.fullmatch(r"[A-Za-z][\w.-]{0,30}", value) for value in values) and any(
        value.casefold() in _NAMES for value in values
    )


def _has_header(recipe: "Recipe", row: dict[str, str]) -> bool:
    """Tell whether the columns were found by their names, so that the header is no row."""
    return recipe.data.format != "text" and not any(
        isinstance(getattr(recipe.data, f"{column}_column"), int) for column in row
    )
