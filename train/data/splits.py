"""The splits of a recipe, as `datasets.Dataset`: rows that were read or made, cut for validation, their labels numbered.

The columns are those of the task, see `train.tasks`; a label of a text is a number, labels of words are a list of numbers. The
names of the labels are those of the training data, sorted: `label_names` returns them.
"""

import itertools
import json
import logging
import re
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.data import cache, sources
from train.data.generators import generate
from train.data.made import Rows
from train.data.readers import Bad, Values, read_whole
from train.errors import UserError, quoted
from train.files import STAGING
from train.settings.recipe import Recipe
from train.settings.sections import SPLITS
from train.tasks import ENTITIES, LISTS, NUMBERS, TASKS

logger = logging.getLogger(__name__)

_CHUNK = 50_000
_CHUNKS_IN_MEMORY = 10
_CHUNK_CHARACTERS = 2**26


def load_splits(recipe: Recipe) -> dict[str, datasets.Dataset]:
    """Read the training data, and the validation and test data where the recipe has any.

    Of training data that is streamed (`data.stream_rows`) this is the first window.

    Raises:
        UserError: a file is missing, empty or broken, naming the file, the line and the rule.
    """
    data, has_names = recipe.data, TASKS[recipe.task].label_column is not None
    generated = generate(data.generator, data.generator_args) if data.generator else {}
    splits: dict[str, datasets.Dataset] = {}
    for name in SPLITS if data.generator else [name for name in SPLITS if getattr(data, name)]:
        limit = _limit(recipe, name)
        if name == "train" and (data.validation_fraction > 0 or has_names):
            limit = None  # the cut, and the names of the labels, are those of all rows
        elif name == "train" and data.stream_rows is not None:
            limit = min(limit or data.stream_rows, data.stream_rows)
        splits[name] = _load(recipe, name, limit, generated.get(name))
    if data.validation_fraction > 0 and "validation" not in splits:
        splits["train"], splits["validation"] = _cut(splits["train"], recipe)
    names = _label_names(splits["train"], recipe) if has_names else []
    splits = {name: _first(splits[name], _limit(recipe, name)) for name in SPLITS if name in splits}
    return _number_labels(splits, names, recipe) if has_names else splits


def _limit(recipe: Recipe, name: str) -> int | None:
    """Return how many rows of a split are used, at most."""
    return recipe.data.limit_train if name == "train" else recipe.data.limit_eval


def _first(split: datasets.Dataset, limit: int | None) -> datasets.Dataset:
    """Return the first rows of a split."""
    table = split.data.table
    return split if limit is None or limit >= table.num_rows else _dataset(table.slice(0, limit), str(split.split))


def fingerprint(splits: dict[str, datasets.Dataset]) -> str:
    """Return the sha256 over every row of every split; it changes with any character and with the order."""
    digest = sha256()
    for name, split in splits.items():
        digest.update(json.dumps([name, split.column_names, len(split)]).encode())
        for batch in split.iter(batch_size=1000):
            digest.update(json.dumps(batch, ensure_ascii=False).encode())
    return digest.hexdigest()


def locate(recipe: Recipe, name: str, index: int) -> str:
    """Say where a row came from, as `file:line` where it is a file's, by reading the data once more."""
    data = recipe.data
    if data.generator:
        return f"{data.generator} {name} row {index + 1}"
    if data.text_unit == "file" and not data.hub:
        return str(sources.paths_of(data, name if getattr(data, name) else "train")[index])
    is_cut = name == "validation" and not data.validation

    def good_rows() -> Iterator[tuple[str, int]]:
        rows = sources.all_rows(recipe, "train" if is_cut else name)
        return ((file, line) for file, line, values in rows if not isinstance(values, Bad))

    if is_cut:
        index += _kept(sum(1 for _ in good_rows()), data.validation_fraction)
    file, line = next(itertools.islice(good_rows(), index, None))
    return f"{file}:{line}"


def _kept(total: int, fraction: float) -> int:
    """Return how many of the rows (or characters) stay training data."""
    return int(total * (1 - fraction))


def _load(recipe: Recipe, name: str, limit: int | None, generated: Rows | None) -> datasets.Dataset:
    """Read one split, or take what a generator made; labels stay text."""
    data, columns = recipe.data, TASKS[recipe.task].columns
    if generated is not None:
        if set(generated) != set(columns):
            rule = f"makes {set(generated)}, {recipe.task} needs {set(columns)}"
            raise UserError(f"data.generator: {data.generator!r} {rule}")
        table = pa.table({column: generated[column][:limit] for column in columns})
    elif data.text_unit == "file":
        texts = [read_whole(path) for path in sources.paths_of(data, name)]
        sources.refuse_empty(any(texts), recipe, name)
        table = pa.table({"text": pa.array(texts, pa.large_string())})
    else:
        table = _table(itertools.islice(sources.good_rows(recipe, name), limit), columns)
    sources.refuse_empty(table.num_rows > 0, recipe, name)
    return _dataset(table, name)


def gathered(rows: Iterator[Values], recipe: Recipe, name: str) -> datasets.Dataset:
    """Gather good rows, however many there are, as a split."""
    return _dataset(_table(rows, TASKS[recipe.task].columns), name)


def _dataset(table: pa.Table, name: str, features: datasets.Features | None = None) -> datasets.Dataset:
    """Wrap a table, in memory, as the named split."""
    info = datasets.DatasetInfo(features=features) if features else None
    return datasets.Dataset(datasets.table.InMemoryTable(table), info=info, split=datasets.NamedSplit(name))


def _table(rows: Iterator[Values], columns: tuple[str, ...]) -> pa.Table:
    """Gather rows chunk by chunk, so that millions of them never stand in memory as Python objects."""
    values = {column: pa.int64() if column in NUMBERS else pa.string() for column in columns}
    schema = pa.schema([(name, pa.list_(kind) if name in LISTS else kind) for name, kind in values.items()])
    mapped: list[pa.Table] = []
    chunks: list[pa.Table] = []
    for chunk in _chunks(rows):
        chunks.append(pa.table(dict(zip(columns, map(list, zip(*chunk, strict=True)), strict=True)), schema=schema))
        if len(chunks) == _CHUNKS_IN_MEMORY:
            mapped.append(_on_disk(pa.concat_tables(chunks)))
            chunks = []
    pa.default_memory_pool().release_unused()  # what was moved to the disk is otherwise kept for later
    return pa.concat_tables([*mapped, *chunks]) if mapped or chunks else schema.empty_table()


def _chunks(rows: Iterator[Values]) -> Iterator[list[Values]]:
    """Divide rows into lists of `_CHUNK` rows, or fewer where they are long."""
    chunk: list[Values] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += sum(map(len, row))
        if len(chunk) == _CHUNK or size > _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _on_disk(table: pa.Table) -> pa.Table:
    """Move a table to a file without a name, mapped into memory; where that fails, it stays in memory.

    The system drops the pages that are not in use, and the file with the process.
    """
    home = cache.folder()
    if home is None:
        return table
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home, prefix=STAGING) as file:
            with pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            return pa.ipc.open_stream(pa.memory_map(file.name)).read_all()
    except OSError as error:
        logger.warning("%s: rows are kept in memory (%s); set %s to another folder", home, error, cache.VARIABLE)
        return table


def _cut(train: datasets.Dataset, recipe: Recipe) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Take the last part of the training data for validation: rows, or the characters of whole files."""
    data = recipe.data
    if data.text_unit == "file":
        text = "".join(train["text"])
        border = _kept(len(text), data.validation_fraction)
        halves = [[half] if half else [] for half in (text[:border], text[border:])]
        tables = [pa.table({"text": pa.array(half, pa.large_string())}) for half in halves]
    else:
        border = _kept(len(train), data.validation_fraction)
        tables = [train.data.table.slice(0, border), train.data.table.slice(border)]
    if not all(table.num_rows for table in tables):
        rule = f"of {len(train)} row(s) must leave rows for both training and validation"
        raise UserError(f"data.validation_fraction: {data.validation_fraction} {rule}")
    train, validation = (_dataset(table, name) for table, name in zip(tables, SPLITS, strict=False))
    return train, validation


def label_names(split: datasets.Dataset) -> list[str] | None:
    """Return the names of the labels by their numbers; None where rows have none."""
    for feature in split.features.values():
        label = feature.feature if isinstance(feature, datasets.List) else feature
        if isinstance(label, datasets.ClassLabel):
            return label.names
    return None


def _label_names(train: datasets.Dataset, recipe: Recipe) -> list[str]:
    """Return the names of the labels of all training rows, however many are used: sorted, numbers in numeric order."""
    column = str(TASKS[recipe.task].label_column)
    names = sorted({*_each(train, column).unique().to_pylist()})
    if all(name.lstrip("-").isdecimal() for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise UserError(f"data.{column}_column: only {names} in the training data; there must be at least 2 labels")
    _refuse_no_entities(names, recipe)
    return names


def _number_labels(
    splits: dict[str, datasets.Dataset], names: list[str], recipe: Recipe
) -> dict[str, datasets.Dataset]:
    """Replace label names by numbers."""
    column, label = str(TASKS[recipe.task].label_column), datasets.ClassLabel(names=names)
    return {name: _numbered(split, name, column, label, recipe) for name, split in splits.items()}


def _each(split: datasets.Dataset, column: str) -> pa.ChunkedArray:
    """Return the labels of a split one after the other."""
    labels = split.data.table[column]
    return pc.list_flatten(labels) if column in LISTS else labels


def _numbered(
    split: datasets.Dataset, name: str, column: str, label: datasets.ClassLabel, recipe: Recipe
) -> datasets.Dataset:
    """Return a split with numbers in the place of its labels.

    Raises:
        UserError: a label is none of the training data's.
    """
    numbers = pc.index_in(_each(split, column), pa.array(label.names)).combine_chunks()
    if numbers.null_count:
        raise UserError(_unknown(split, name, column, label.names, numbers.is_null().index(True).as_py(), recipe))
    numbers = numbers.cast(pa.int64())
    feature: Any = label
    if column in LISTS:
        sizes = pc.list_value_length(split.data.table[column]).to_numpy()
        numbers = pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32), numbers)
        feature = datasets.List(label)
    columns = {one: split.data.table[one] for one in split.column_names} | {column: numbers}
    return _dataset(pa.table(columns), name, datasets.Features(split.features | {column: feature}))


def _unknown(split: datasets.Dataset, name: str, column: str, names: list[str], number: int, recipe: Recipe) -> str:
    """Say where a label stands that the training data do not have, given its number among all of the split."""
    row, word = number, ""
    value = _each(split, column)[number].as_py()
    if column in LISTS:
        ends = np.cumsum(pc.list_value_length(split.data.table[column]).to_numpy())
        row = int(np.searchsorted(ends, number, side="right"))
        at = number - int(ends[row - 1] if row else 0)
        word = f"word {at + 1}, {quoted(split[row]['words'][at])}: "
    rule = f"must be one of the training data's {len(names)}: {', '.join(names)[:200]}"
    return f"{locate(recipe, name, row)}: {word}label {value!r} {rule}"


def _refuse_no_entities(names: list[str], recipe: Recipe) -> None:
    """Refuse figures of entities where labels mark none, at the start and not at the end of a run."""
    named = [name for name in (*recipe.eval.metrics, *recipe.eval.during_training) if name in ENTITIES]
    wrong = next((name for name in names if not re.fullmatch("O|[BI]-.+", name)), None)
    if named and wrong is not None:
        rule = "needs labels that are O, B-NAME or I-NAME (BIO)"
        raise UserError(f"eval.metrics: {named[0]} {rule}; the training data have {wrong!r}")
