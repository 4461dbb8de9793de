"""The rows of a recipe: local files, a Hub data set or a generator, checked, as `datasets.Dataset`.

Columns: `source` and `target` for translation, `text` for causal and masked, `text` and `label` for classification. The
names of the labels are those of the training data, sorted, and stand in `split.features["label"].names`.
"""

import itertools
import json
import logging
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from train.data import cache, causes
from train.data.dates import Rows, generate
from train.data.readers import (
    Bad,
    Column,
    Row,
    Values,
    format_of,
    pick_fields,
    read_parallel,
    read_table,
    read_text,
    read_whole,
)
from train.errors import MissingDataError, UserError
from train.files import STAGING
from train.settings.recipe import Recipe
from train.settings.sections import DataSection
from train.tasks import TASKS

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
_JUDGED = 1000  # lines after which data may be refused before its end
_CHUNK = 50_000
_CHUNKS_IN_MEMORY = 10
_CHUNK_CHARACTERS = 2**26


def load_splits(recipe: Recipe) -> dict[str, datasets.Dataset]:
    """Read the training data, and the validation and test data where the recipe has any.

    Of training data that is streamed (`data.stream_rows`) this is the first window.

    Raises:
        UserError: a file is missing, empty or broken, naming the file, the line and the rule.
    """
    data = recipe.data
    fraction = data.validation_fraction
    names = SPLITS if data.generator else [name for name in SPLITS if getattr(data, name)]
    splits, made = {}, generate(data.generator, data.generator_args) if data.generator else {}
    for name in names:
        limit = data.limit_train if name == "train" else data.limit_eval
        whole = name == "train" and fraction > 0
        if name == "train" and data.stream_rows is not None:
            limit = min(limit or data.stream_rows, data.stream_rows)
        splits[name] = _load(recipe, name, None if whole else limit, made.get(name))
    if fraction > 0 and "validation" not in splits:
        splits["train"], splits["validation"] = _cut(splits["train"], recipe)
    if TASKS[recipe.task].has_classes:
        splits = _number_labels(splits, recipe)
    return {name: splits[name] for name in SPLITS if name in splits}


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
        return str(_paths(data, name if getattr(data, name) else "train")[index])
    if name == "validation" and not data.validation:
        name = "train"
        total = sum(1 for row in _rows(recipe, name) if not isinstance(row[2], Bad))
        index += _keep(total, data.validation_fraction)
    kept = (row for row in _rows(recipe, name) if not isinstance(row[2], Bad))
    file, line, _ = next(itertools.islice(kept, index, None))
    return f"{file}:{line}"


def _keep(total: int, fraction: float) -> int:
    """Return how many of the rows (or characters) stay training data."""
    return int(total * (1 - fraction))


def _load(recipe: Recipe, name: str, limit: int | None, made: Rows | None) -> datasets.Dataset:
    """Read one split, or take what a generator made; labels stay text."""
    data, columns = recipe.data, TASKS[recipe.task].columns
    if made is not None:
        if set(made) != set(columns):
            raise UserError(
                f"data.generator: {data.generator!r} makes {set(made)}, {recipe.task} needs {set(columns)}"
            )
        table = pa.table({column: made[column][:limit] for column in columns})
    elif data.text_unit == "file":
        table = pa.table({"text": pa.array([read_whole(path) for path in _paths(data, name)], pa.large_string())})
        refuse_empty(any(table["text"].to_pylist()), recipe, name)
    else:
        table = _table(itertools.islice(kept(recipe, name), limit), columns)
    refuse_empty(table.num_rows > 0, recipe, name)
    return _dataset(table, name)


def gathered(rows: Iterator[Values], recipe: Recipe, name: str) -> datasets.Dataset:
    """Gather good rows, however many there are, as a split."""
    return _dataset(_table(rows, TASKS[recipe.task].columns), name)


def refuse_empty(holds: bool, recipe: Recipe, name: str) -> None:
    """Refuse a split without rows."""
    if not holds:
        place = recipe.data.hub or recipe.data.generator or ", ".join(map(str, _paths(recipe.data, name)))
        raise UserError(f"{place}: no rows; the {name} data must hold at least one")


def _dataset(table: pa.Table, name: str, features: datasets.Features | None = None) -> datasets.Dataset:
    """Wrap a table, in memory, as the named split."""
    info = datasets.DatasetInfo(features=features) if features else None
    return datasets.Dataset(datasets.table.InMemoryTable(table), info=info, split=datasets.NamedSplit(name))


def _table(rows: Iterator[Values], columns: tuple[str, ...]) -> pa.Table:
    """Gather rows chunk by chunk, so that millions of them never stand in memory as Python objects."""
    schema = pa.schema([(column, pa.string()) for column in columns])
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


def kept(recipe: Recipe, name: str, hub: Any | None = None, before: int = 0) -> Iterator[Values]:
    """Yield the good rows of a split; a bad one stops the run, or is skipped and counted.

    Args:
        recipe: says where the rows are.
        name: the split.
        hub: the split of a Hub data set, where it is open already.
        before: rows of it that were read before.
    """
    skipped, first, total = 0, "", 0
    for total, (file, line, values) in enumerate(_rows(recipe, name, hub, before), start=1):
        if not isinstance(values, Bad):
            yield values
            continue
        if not first:
            cause = "" if recipe.data.hub else causes.guess(file, recipe.data.format or format_of(Path(file)))
            first = f"{file}:{line}: {values.rule}{cause}"
        if recipe.data.on_bad_line == "stop":
            raise UserError(f"{first} (data.on_bad_line: skip leaves such lines out)")
        skipped += 1
        if total >= _JUDGED:
            _refuse_most(name, skipped, total, first)
    if skipped:
        _refuse_most(name, skipped, total, first)
        logger.warning("%s data: skipped %d bad line(s), the first: %s", name, skipped, first)


def _refuse_most(name: str, skipped: int, total: int, first: str) -> None:
    """Refuse data most of which would be left out: something is wrong with all of it, and not with single lines."""
    if 2 * skipped > total:
        rule = "skipping is for single lines, at most half of them"
        raise UserError(f"{name} data: {skipped:,} of {total:,} lines are bad; {rule}; the first: {first}")


def _rows(recipe: Recipe, name: str, hub: Any | None = None, before: int = 0) -> Iterator[Row]:
    """Yield every row of a split, good or bad."""
    if recipe.data.hub:
        rows = _hub_rows(recipe, name, hub_split(recipe, name) if hub is None else hub, before)
    else:
        rows = _file_rows(recipe, name)
    for file, line, values in rows:
        if not isinstance(values, Bad) and not TASKS[recipe.task].cuts_blocks:
            # Texts of classification may be empty (<cls> <sep> remains), an empty side of a translation teaches nothing.
            needed = values if TASKS[recipe.task].has_pairs else values[1:]
            empty = [
                column
                for column, value in zip(TASKS[recipe.task].columns[-len(needed) :], needed, strict=True)
                if not value.strip()
            ]
            if empty:
                values = Bad(f"the {empty[0]} is empty; it must hold text")
        yield file, line, values


def _columns(data: DataSection, task: str) -> dict[str, Column]:
    """Return the table columns of a task: field of the recipe -> column, by default named as ours."""
    names = {f"{column}_column": getattr(data, f"{column}_column") for column in TASKS[task].columns}
    return {name: name.removesuffix("_column") if column is None else column for name, column in names.items()}


def _file_rows(recipe: Recipe, name: str) -> Iterator[Row]:
    """Yield the rows of local files, one after the other, or side by side for parallel text."""
    data, paths = recipe.data, _paths(recipe.data, name)
    kinds = {data.format or format_of(path) for path in paths}
    if TASKS[recipe.task].has_pairs and kinds == {"text"}:
        if len(paths) != 2:
            raise UserError(
                f"data.{name}: {len(paths)} text file(s); must be [source file, target file], or tsv, csv or json"
            )
        return read_parallel(paths)
    if TASKS[recipe.task].has_classes and "text" in kinds:
        raise UserError(f"data.{name}: {paths[0]} is text without columns; classification must have tsv, csv or json")
    columns = _columns(data, recipe.task)
    return itertools.chain.from_iterable(
        read_text(path) if kind == "text" else read_table(path, kind, columns)
        for path, kind in ((path, data.format or format_of(path)) for path in paths)
    )


def _paths(data: DataSection, name: str) -> list[Path]:
    """Return the files of a split, each of which exists."""
    files = getattr(data, name)
    paths = [Path(data.root) / file for file in ([files] if isinstance(files, str) else files)]
    for path in paths:
        if not path.is_file():
            if path.exists():
                raise UserError(f"{path}: is a folder (data.{name}); must be a file, or a list of files")
            raise MissingDataError(
                f"{path}: no such file (data.{name}); data.root is {data.root!r}, that is {Path(data.root).resolve()}: "
                "put the file there, or name its folder with --data.root FOLDER"
            )
    return paths


def hub_split(recipe: Recipe, name: str) -> Any:
    """Open a split of a Hub data set, or of a folder that `datasets` can read; of a stream only what is read is fetched.

    Raises:
        UserError: the recipe names it wrongly, or it cannot be read.
    """
    data, split = recipe.data, getattr(recipe.data, name)
    if not isinstance(split, str) or any(isinstance(column, int) for column in _columns(data, recipe.task).values()):
        raise UserError(
            f"data.{name}: {split!r} must be one split's name, and columns must be names, where data.hub is set"
        )
    streaming = name == "train" and data.stream_rows is not None
    try:
        _refuse_files_of_elsewhere(data)
        return datasets.load_dataset(data.hub, data.hub_config, split=split, streaming=streaming)
    except Exception as error:  # noqa: BLE001 - any of the library's, the network's and the file formats' own errors
        raise UserError(f"data.hub: {data.hub!r} ({data.hub_config}, {split}): {error}") from None


def _refuse_files_of_elsewhere(data: DataSection) -> None:
    """Refuse a data set whose card names files of this machine that are not its own: they would become training data.

    Raises:
        ValueError: names the first one.
    """
    own = Path(str(data.hub)).resolve()
    named = datasets.load_dataset_builder(str(data.hub), data.hub_config).config.data_files or {}
    for name in (str(name) for names in named.values() for name in names):
        is_own = Path(name).resolve().is_relative_to(own) if own.is_dir() else "://" in name
        if not is_own:
            raise ValueError(f"data_files: {name} is no file of the data set")


def _hub_rows(recipe: Recipe, name: str, rows: Any, before: int) -> Iterator[Row]:
    """Yield the rows of a Hub data set, with their numbers as lines."""
    data, columns, names = recipe.data, _columns(recipe.data, recipe.task), None
    if TASKS[recipe.task].has_classes:
        label = columns["label_column"]
        if isinstance(names := rows.features.get(label), datasets.ClassLabel):  # better than their numbers
            rows = rows.cast_column(label, datasets.Value("int64"))
    for line, record in enumerate(rows, start=before + 1):
        if isinstance(names, datasets.ClassLabel):
            record = record | {label: names.int2str(record[label])}
        yield f"{data.hub} {getattr(data, name)}", line, pick_fields(record, columns)


def _cut(train: datasets.Dataset, recipe: Recipe) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Take the last part of the training data for validation: rows, or the characters of whole files."""
    data = recipe.data
    if data.text_unit == "file":
        text = "".join(train["text"])
        keep = _keep(len(text), data.validation_fraction)
        parts = [text[:keep], text[keep:]]
        tables = [pa.table({"text": pa.array([part] if part else [], pa.large_string())}) for part in parts]
        first, second = (_dataset(table, name) for table, name in zip(tables, SPLITS, strict=False))
    else:
        keep = _keep(len(train), data.validation_fraction)
        first = _dataset(train.data.table.slice(0, keep), "train")
        second = _dataset(train.data.table.slice(keep), "validation")
    if not len(first) or not len(second):
        rule = f"of {len(train)} row(s) must leave rows for both training and validation"
        raise UserError(f"data.validation_fraction: {data.validation_fraction} {rule}")
    limits = (data.limit_train, data.limit_eval)
    first, second = (
        part if limit is None else part.select(range(min(limit, len(part))))
        for part, limit in zip((first, second), limits, strict=True)
    )
    return first, second


def _number_labels(splits: dict[str, datasets.Dataset], recipe: Recipe) -> dict[str, datasets.Dataset]:
    """Replace label names by numbers; the names are the training data's, numbers in numeric order."""
    found = set(splits["train"].unique("label"))
    numeric = all(name.lstrip("-").isdecimal() for name in found)
    names = sorted(found, key=(lambda name: (int(name), name)) if numeric else None)
    numbers = {name: number for number, name in enumerate(names)}
    if len(names) < 2:
        raise UserError(f"data.label_column: only {names} in the training data; there must be at least 2 labels")
    result = {}
    for split_name, split in splits.items():
        labels = split["label"][:]
        unknown = next((row for row, label in enumerate(labels) if label not in numbers), None)
        if unknown is not None:
            rule = (
                f"label {labels[unknown]!r} must be one of the training data's {len(names)}: {', '.join(names)[:200]}"
            )
            raise UserError(f"{locate(recipe, split_name, unknown)}: {rule}")
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        table = pa.table(
            {"text": split.data.table["text"], "label": pa.array([numbers[label] for label in labels], pa.int64())}
        )
        result[split_name] = _dataset(table, split_name, features)
    return result
