"""Where the rows of a recipe come from: local files or a Hub data set, each row checked and named by file and line."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from train.data import causes, questions, tagged
from train.data.readers import Bad, Column, Row, Values, format_of, pick_fields, read_parallel, read_table, read_text
from train.errors import MissingDataError, UserError
from train.settings.recipe import Recipe
from train.settings.sections import DataSection
from train.tasks import LISTS, TASKS

logger = logging.getLogger(__name__)

_JUDGED = 1000  # lines after which data may be refused before its end


def good_rows(recipe: Recipe, name: str, hub: Any | None = None, before: int = 0) -> Iterator[Values]:
    """Yield the good rows of a split; a bad one stops the run, or is skipped and counted.

    Args:
        recipe: says where the rows are.
        name: the split.
        hub: the split of a Hub data set, where it is open already.
        before: rows of it that were read before.
    """
    skipped, first, total = 0, "", 0
    for total, (file, line, values) in enumerate(all_rows(recipe, name, hub, before), start=1):
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


def all_rows(recipe: Recipe, name: str, hub: Any | None = None, before: int = 0) -> Iterator[Row]:
    """Yield every row of a split, good or bad."""
    if recipe.data.hub:
        rows = _hub_rows(recipe, name, hub_split(recipe, name) if hub is None else hub, before)
    else:
        rows = _file_rows(recipe, name)
    for file, line, values in rows:
        fault = None if isinstance(values, Bad) else _fault(recipe.task, values)
        yield file, line, Bad(fault) if fault else values


def _fault(task: str, values: Values) -> str | None:
    """Say what is wrong with the values of a row."""
    row = dict(zip(TASKS[task].columns, values, strict=True))
    for column in TASKS[task].filled:
        texts = row[column] if isinstance(row[column], tuple) else (row[column],)
        blank = next((number for number, text in enumerate(texts, start=1) if not text.strip()), None)
        if blank or not texts:
            name = f"{column}: number {blank}" if column in LISTS and blank else f"the {column}"
            return f"{name} is empty; it must hold text"
    sizes = {column: len(value) for column, value in row.items() if column in LISTS}
    if len({*sizes.values()}) > 1:
        counts = " and ".join(f"{size} {column}" for column, size in sizes.items())
        return f"{counts} found; there must be one of each for the other"
    return questions.fault(row) if TASKS[task].has_spans else None


def refuse_empty(holds: bool, recipe: Recipe, name: str) -> None:
    """Refuse a split without rows."""
    if not holds:
        origin = recipe.data.hub or recipe.data.generator or ", ".join(map(str, paths_of(recipe.data, name)))
        raise UserError(f"{origin}: no rows; the {name} data must hold at least one")


def _columns(data: DataSection, task: str) -> dict[str, Column]:
    """Return the table columns of a task: field of the recipe -> column, by default named as ours."""
    names = {f"{column}_column": getattr(data, f"{column}_column") for column in TASKS[task].columns}
    return {name: name.removesuffix("_column") if column is None else column for name, column in names.items()}


def _file_rows(recipe: Recipe, name: str) -> Iterator[Row]:
    """Yield the rows of local files, one after the other, or side by side for parallel text."""
    data, paths = recipe.data, paths_of(recipe.data, name)
    kinds = [data.format or format_of(path) for path in paths]
    if TASKS[recipe.task].has_pairs and {*kinds} == {"text"}:
        if len(paths) != 2:
            rule = "must be [source file, target file], or tsv, csv or json"
            raise UserError(f"data.{name}: {len(paths)} text file(s); {rule}")
        return read_parallel(paths)
    formats = TASKS[recipe.task].formats
    wrong = next((kind for kind in kinds if kind not in formats), None)
    if wrong:
        fault = f"{paths[kinds.index(wrong)]} is {'text without columns' if wrong == 'text' else wrong}"
        rule = f"{recipe.task} must have {', '.join(formats[:-1])} or {formats[-1]} (data.format)"
        raise UserError(f"data.{name}: {fault}; {rule}")
    return itertools.chain.from_iterable(_rows_of(path, kind, recipe) for path, kind in zip(paths, kinds, strict=True))


def _rows_of(path: Path, kind: str, recipe: Recipe) -> Iterator[Row]:
    """Yield the rows of one file."""
    if kind == "text":
        return read_text(path)
    if kind in tagged.FORMATS:
        return tagged.read(path, kind, recipe.data.words_column, recipe.data.tags_column)
    if kind in questions.FORMATS:
        return questions.read(path, kind, tuple(paths_of(recipe.data, "train")))
    return read_table(path, kind, _columns(recipe.data, recipe.task))


def paths_of(data: DataSection, name: str) -> list[Path]:
    """Return the files of a split, each of which exists."""
    files = getattr(data, name)
    paths = [Path(data.root) / file for file in ([files] if isinstance(files, str) else files)]
    for path in paths:
        if path.is_dir():
            raise UserError(f"{path}: is a folder (data.{name}); must be a file, or a list of files")
        if not path.is_file():
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
        rule = "must be one split's name, and columns must be names, where data.hub is set"
        raise UserError(f"data.{name}: {split!r} {rule}")
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
    folder = Path(str(data.hub)).resolve()
    data_files = datasets.load_dataset_builder(str(data.hub), data.hub_config).config.data_files or {}
    for name in (str(name) for names in data_files.values() for name in names):
        is_inside = Path(name).resolve().is_relative_to(folder) if folder.is_dir() else "://" in name
        if not is_inside:
            raise ValueError(f"data_files: {name} is no file of the data set")


def _hub_rows(recipe: Recipe, name: str, rows: Any, before: int) -> Iterator[Row]:
    """Yield the rows of a Hub data set, with their numbers as lines."""
    data, columns = recipe.data, _columns(recipe.data, recipe.task)
    label = columns.get(f"{TASKS[recipe.task].label_column}_column")
    feature = rows.features.get(label) if label else None
    is_list = isinstance(feature, datasets.List)
    names = feature.feature if is_list else feature
    if isinstance(names, datasets.ClassLabel):  # better than their numbers
        number = datasets.Value("int64")
        rows = rows.cast_column(label, datasets.List(number) if is_list else number)
    for line, record in enumerate(rows, start=before + 1):
        if isinstance(names, datasets.ClassLabel):
            record = record | {label: names.int2str(record[label])}
        yield f"{data.hub} {getattr(data, name)}", line, pick_fields(record, columns)
