"""Text to token ids: the rows of a split as `examples`, with the bounds that the model and the budget set them."""

import logging
import os
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from tokenizer import pieces
from train.data import cache, windows, words
from train.data.examples import Blocks, Examples, Ragged
from train.data.splits import locate
from train.errors import UserError
from train.model.start import config_value
from train.settings.recipe import Recipe
from train.tasks import TASKS

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_BATCH = 1000
_CALL = 2**20
"""Characters that are given to the tokenizer at once; it needs about 200 bytes for each."""
_MOST_UNKNOWN = 0.01


def encode(split: "Dataset", tokenizer: "PreTrainedTokenizerBase", recipe: Recipe, first: int = 0) -> Examples:
    """Turn the rows of a split into ids; what looks like a special token in the text stays text.

    Args:
        split: rows of `splits.load_splits`.
        tokenizer: built with the template of the task.
        recipe: its task, its `data.too_long`, its `batch.block_size` and its `batch.packing` are read: text that is packed for
            training is one document a line here too, so that figures are of what the model has learned.
        first: rows of the data before these, for a window of a stream.

    Raises:
        UserError: a row is too long (with `data.too_long: error`), or the text is too short for one block.
    """
    name, task = _name(split), TASKS[recipe.task]
    if recipe.task == "causal" and recipe.data.text_unit == "line" and tokenizer.eos_token_id is None:
        raise UserError(f"{name} data: the tokenizer has no end token (eos_token), which must stand after each line")
    if task.cuts_blocks and recipe.batch.packing:
        return _documents(split, name, tokenizer, recipe, first)
    if task.cuts_blocks:
        return _blocks(split, name, tokenizer, recipe, first)
    if task.has_tags:
        examples = words.encode(split, tokenizer)
        _warn_of_unknown(examples.sides["input_ids"], split, "words", tokenizer)
    elif task.has_spans:
        limit = _longest(tokenizer, recipe, name)
        return windows.encode(split, tokenizer, recipe, limit, lambda row: locate(recipe, name, first + row))
    else:
        columns = {"input_ids": "source", "labels": "target"} if task.has_pairs else {"input_ids": "text"}
        sides = {side: _tokens(split, column, tokenizer, recipe, first) for side, column in columns.items()}
        examples = Examples(sides, {"labels": np.asarray(split["label"][:])} if task.has_classes else None)
    return _shortened(examples, name, recipe, _longest(tokenizer, recipe, name), first)


def _name(split: "Dataset") -> str:
    return str(split.split or "train")


def _tokens(
    split: "Dataset", column: str, tokenizer: Any, recipe: Recipe, first: int = 0, special: bool = True
) -> Ragged:
    """Return the ids of every row of a column; those of many rows from the cache, which a stream would only fill.

    Raises:
        UserError: a long row cannot be encoded in pieces.
    """
    name = _name(split)

    def make() -> dict[str, np.ndarray]:
        encoded = _encoded(split, column, tokenizer, lambda row: locate(recipe, name, first + row), special)
        return vars(Ragged(encoded))

    is_streamed = name == "train" and recipe.data.stream_rows is not None
    if (
        len(split) < cache.FEW_ROWS or is_streamed or not tokenizer.is_fast
    ):  # a slow one has no definition to be named by
        ids = Ragged.of(**make())
    else:
        ids = Ragged.of(**cache.through(cache.key_of(split, column, tokenizer, special), make))
    if not first:  # of a stream, the first window is enough
        _warn_of_unknown(ids, split, column, tokenizer)
    return ids


def _warn_of_unknown(ids: Ragged, split: "Dataset", column: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Warn where more than `_MOST_UNKNOWN` of the tokens are the unknown one: they all mean the same to the model."""
    if tokenizer.unk_token_id is None or not len(ids.flat):
        return
    unknown = np.flatnonzero(ids.flat == tokenizer.unk_token_id)
    share = len(unknown) / len(ids.flat)
    if share <= _MOST_UNKNOWN:
        return
    text = split[int(np.searchsorted(ids.offsets, unknown[0], side="right")) - 1][column]
    text = text if isinstance(text, str) else " ".join(text)
    reason = "the tokenizer was built without these characters"
    if not unicodedata.is_normalized("NFC", text):
        reason += "; the text is decomposed Unicode, tokenizer.normalize: nfc composes it"
    count = f"{100 * share:.1f} % of the tokens of column {column} are {tokenizer.unk_token}, as in {text[:80]!r}"
    logger.warning("%s data: %s: %s", _name(split), count, reason)


def _encoded(
    split: "Dataset", column: str, tokenizer: "PreTrainedTokenizerBase", where: Callable[[int], str], special: bool
) -> Iterator[Iterable[int]]:
    """Yield the ids of every row of a column, with a progress bar on the first process."""
    # Marian's tokenizer has pieces of its own for the other language.
    side, row = "text_target" if column == "target" else "text", 0
    quiet = None if _shows() else True  # None: where stderr is no terminal
    with tqdm(
        total=len(split), desc=f"encode {_name(split)} {column}", unit=" rows", leave=False, disable=quiet
    ) as bar:
        for batch in split.select_columns(column).iter(batch_size=_BATCH):
            for texts in _calls(batch[column]):
                if len(texts) == 1 and len(texts[0]) > _CALL and tokenizer.is_fast:
                    try:
                        yield _long(texts[0], tokenizer, side, special)
                    except pieces.NoPlaceError as error:
                        raise UserError(f"{where(row)}: {error}") from None
                else:
                    yield from _call(tokenizer, side, texts, add_special_tokens=special)["input_ids"]
                row += len(texts)
                bar.update(len(texts))


def _call(tokenizer: "PreTrainedTokenizerBase", side: str, texts: str | list[str], **options: Any) -> dict[str, Any]:
    """Encode one text or several."""
    options |= {"return_attention_mask": False, "return_token_type_ids": False}
    return tokenizer(**{side: texts}, split_special_tokens=True, verbose=False, **options)


def _calls(texts: list[str]) -> Iterator[list[str]]:
    """Divide texts into lists of at most `_CALL` characters; a longer text stands alone."""
    group: list[str] = []
    room = _CALL
    for text in texts:
        if group and len(text) > room:
            yield group
            group, room = [], _CALL
        group.append(text)
        room -= len(text)
    yield group


def _long(text: str, tokenizer: "PreTrainedTokenizerBase", side: str, special: bool) -> np.ndarray:
    """Return the ids of a text that is too long for one call, with the special tokens of the template around them.

    Raises:
        pieces.NoPlaceError: it has no place where it could be cut.
    """

    def tokens_of(piece: str) -> pieces.Tokens:
        made = _call(tokenizer, side, piece, add_special_tokens=False, return_offsets_mapping=True)
        spans = np.asarray(made["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        return np.asarray(made["input_ids"], dtype=np.int32), spans

    sections = [np.asarray(section, dtype=np.int32) for section in pieces.encode(text, tokens_of)]
    if special:  # what the template puts around a short text
        around = _call(tokenizer, side, "a", add_special_tokens=True)["input_ids"]
        bare = _call(tokenizer, side, "a", add_special_tokens=False)["input_ids"]
        begin = next(at for at in range(len(around)) if around[at : at + len(bare)] == bare)
        sections = [np.asarray(around[:begin], np.int32), *sections, np.asarray(around[begin + len(bare) :], np.int32)]
    return np.concatenate(sections)


def _shows() -> bool:
    """Tell the first process of a launch from the others, without starting accelerate; what is read ahead is not shown."""
    return os.environ.get("RANK", "0") == "0" and threading.current_thread() is threading.main_thread()


def _longest(tokenizer: "PreTrainedTokenizerBase", recipe: Recipe, name: str) -> tuple[int, str]:
    """Return the longest row allowed, and the rule that says so."""
    limits = [
        (config_value(recipe, "max_position_embeddings"), "max_position_embeddings"),
        (int(tokenizer.model_max_length), "the tokenizer's model_max_length"),
    ]
    if name == "train":  # evaluation has a budget of its own, which any row fits
        limits.append((recipe.batch.max_tokens, "batch.max_tokens"))
        if recipe.batch.packing and recipe.batch.block_size:
            limits.append((recipe.batch.block_size, "batch.block_size"))
    return min(limits)


def _shortened(examples: Examples, name: str, recipe: Recipe, limit: tuple[int, str], first: int) -> Examples:
    """Stop at rows that are too long, leave them out, or cut them before their last token, which ends the text.

    Evaluation leaves no row out, whatever the recipe says, since a figure must be about the whole split: there `skip` cuts.
    """
    longest, rule = limit
    lengths = examples.lengths(0)
    long = np.flatnonzero(lengths.max(axis=1) > longest)
    if not len(long):
        return examples
    if recipe.data.too_long == "error":
        origin = locate(recipe, name, first + int(long[0]))
        hint = f"must be at most {rule} {longest} (data.too_long: truncate or skip goes on)"
        count = f"{len(long):,} of {len(lengths):,} {name} rows are longer, the longest has {lengths.max()} tokens"
        raise UserError(f"{origin}: {lengths[long[0]].max()} tokens, {hint}; {count}")
    is_cut = recipe.data.too_long == "truncate" or name != "train"
    count = f"{'cut' if is_cut else 'left out'} {len(long)} of {len(lengths)} rows"
    logger.warning("%s data: %s longer than %s %d", name, count, rule, longest)
    keep = np.arange(len(lengths)) if is_cut else np.setdiff1d(np.arange(len(lengths)), long)
    if not len(keep):
        rule = f"some must be at most {rule} {longest} tokens long"
        raise UserError(f"data.too_long: skip leaves no {name} rows; {rule}")
    return examples.shortened(keep, longest)


def _documents(
    split: "Dataset", name: str, tokenizer: "PreTrainedTokenizerBase", recipe: Recipe, first: int
) -> Examples:
    """Turn every line into a sequence of its own, as packed rows hold them; a longer one is cut into several.

    Causal: the end token, the line, the end token, so that exactly the tokens of the stream are predicted; pieces share one
    token. Masked: <cls>, text, <sep>; empty lines are left out.
    """
    longest, _ = _longest(tokenizer, recipe, "train")  # pieces of an evaluation are those of the training
    causal = recipe.task == "causal"
    # Of a piece, `room` tokens are its own; a causal one takes the last token of the piece before along.
    room, around = (longest - 1, tokenizer.eos_token_id) if causal else (longest - 2, None)
    if room < 1:
        raise UserError(f"batch.block_size: {longest} must be at least {2 if causal else 3} with batch.packing")

    def sequences() -> Iterator[np.ndarray]:
        lines = _tokens(split, "text", tokenizer, recipe, first, special=False)
        for line in (lines[index] for index in range(len(lines))):
            ids = np.asarray([around, *line, around] if causal else line, dtype=np.int32)
            for start in range(0, len(ids) - causal, room):
                piece = ids[start : start + room + causal]
                yield piece if causal else np.concatenate([[tokenizer.cls_token_id], piece, [tokenizer.sep_token_id]])

    sides = {"input_ids": Ragged(sequences())}
    if not len(sides["input_ids"]):
        raise UserError(f"{locate(recipe, name, first)}: no text in the {name} data; there must be some")
    return Examples(sides)


def row_capacity(tokenizer: "PreTrainedTokenizerBase", recipe: Recipe) -> int:
    """Return the tokens of a packed row.

    Raises:
        UserError: the row is longer than the token budget.
    """
    longest, _ = _longest(tokenizer, recipe, "train")
    capacity = recipe.batch.block_size or longest
    if capacity > recipe.batch.max_tokens:
        raise UserError(f"batch.block_size: {capacity} must be at most batch.max_tokens, {recipe.batch.max_tokens}")
    return capacity


def _blocks(split: "Dataset", name: str, tokenizer: "PreTrainedTokenizerBase", recipe: Recipe, first: int) -> Blocks:
    """Join all rows into one stream; after a line of causal text stands the end token, so that line ends are predicted."""
    causal = recipe.task == "causal"
    prefix, suffix = ((), ()) if causal else ((tokenizer.cls_token_id,), (tokenizer.sep_token_id,))
    lines = _tokens(split, "text", tokenizer, recipe, first, special=False)
    ended = causal and recipe.data.text_unit == "line"
    stream = np.insert(lines.flat, lines.offsets[1:], tokenizer.eos_token_id) if ended else lines.flat
    if len(stream) < 2:
        origin = locate(recipe, name, first)
        raise UserError(f"{origin}: {len(stream)} token(s) in the {name} data; there must be at least 2")
    longest, rule = _longest(tokenizer, recipe, "")
    budget = recipe.batch.max_tokens
    # The budget counts predictions (batching), the position table every token.
    rooms = [
        (longest - (1 if causal else 2), rule, longest),
        (budget - len(prefix) - len(suffix), "batch.max_tokens", budget),
    ]
    most, rule, limit = min(rooms)
    block_size = recipe.batch.block_size or most
    if not 1 <= block_size <= most:
        beside = "the token behind it" if causal else "a token before and one behind it"
        raise UserError(
            f"batch.block_size: {block_size} must be in 1..{most}, as {rule} is {limit} and a row holds a block and {beside}"
        )
    return Blocks(stream, block_size, recipe.loop.seed, int(causal), prefix, suffix)
