"""Rows as token ids: one example per row (translation, classification) or blocks of a stream (causal, masked)."""

import logging
import os
import threading
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from modeling_vanilla import VanillaConfig
from tokenizer import pieces
from train.data import cache
from train.data.splits import locate
from train.errors import UserError
from train.model.start import config_values
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


class Ragged:
    """Many sequences of ids of different lengths in one flat array."""

    def __init__(self, sequences: Iterable[Iterable[int]] = ()):
        # Typed arrays: millions of rows as Python lists would take ten times the memory.
        flat, ends = array("i"), array("q", [0])
        for sequence in sequences:
            if isinstance(sequence, np.ndarray) and sequence.dtype == np.int32:
                flat.frombytes(sequence.tobytes())
            else:
                flat.extend(sequence)
            ends.append(len(flat))
        self.flat = np.frombuffer(flat, dtype=np.int32)  # no copy of what may be gigabytes
        self.offsets = np.array(ends, dtype=np.int64)

    @classmethod
    def of(cls, flat: np.ndarray, offsets: np.ndarray) -> "Ragged":
        """Wrap arrays as they are, such as those that are mapped from a file."""
        result = cls()
        result.flat, result.offsets = np.asarray(flat), np.asarray(offsets)  # slices of a memmap are slow
        return result

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one sequence."""
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    def lengths(self) -> np.ndarray:
        """Return the length of every sequence."""
        return np.diff(self.offsets)


class Examples:
    """The examples of one split; an example does not change from epoch to epoch.

    Args:
        sides: `input_ids`, and `labels` for translation.
        classes: class numbers, for classification.
    """

    def __init__(self, sides: dict[str, Ragged], classes: np.ndarray | None = None):
        self.sides, self.classes = sides, classes

    def __len__(self) -> int:
        """Return the number of examples of epoch 0."""
        return len(self.lengths(0))

    def lengths(self, epoch: int) -> np.ndarray:
        """Return the tokens of every example on each side, (examples, sides)."""
        return np.stack([side.lengths() for side in self.sides.values()], axis=1)

    def seek(self, epoch: int, place: dict[str, Any]) -> None:
        """Go to where an epoch begins; nothing to do where all rows are at hand."""

    def following(self, epoch: int) -> dict[str, Any]:
        """Return what `seek` needs for the epoch after this one; nothing where all rows are at hand."""
        return {}

    def row(self, epoch: int, index: int) -> dict[str, Any]:
        """Return one example: its number as `row`, its ids, and its class as `labels` for classification."""
        example: dict[str, Any] = {"row": index} | {name: side[index] for name, side in self.sides.items()}
        return example if self.classes is None else example | {"labels": int(self.classes[index])}


class Blocks(Examples):
    """A stream of ids cut into blocks, at other places in every epoch; epoch 0 starts at the beginning.

    Causal blocks share one token with the next, so that every token but the first is predicted exactly once an epoch.
    Masked blocks share none and stand between `prefix` and `suffix`.

    Args:
        stream: all ids, one after the other.
        block_size: predictions (masked: tokens of the stream) of a block.
        seed: of the shift of later epochs.
        overlap: 1 for causal, 0 for masked.
        prefix: ids before every block.
        suffix: ids after every block.
    """

    def __init__(self, stream: np.ndarray, block_size: int, seed: int, overlap: int, prefix=(), suffix=()):
        self.stream, self.block_size, self.seed, self.overlap = stream, block_size, seed, overlap
        self.prefix, self.suffix = (np.asarray(ids, dtype=np.int32) for ids in (prefix, suffix))
        self._bounds: tuple[int, np.ndarray] = (0, self._cuts(0))

    def _cuts(self, epoch: int) -> np.ndarray:
        """Return where blocks begin, and the end."""
        end = len(self.stream) - self.overlap
        shift = 0 if epoch == 0 else int(np.random.default_rng([self.seed, epoch]).integers(self.block_size))
        return np.unique(np.concatenate([[0], np.arange(shift, end, self.block_size), [end]]))

    def _of(self, epoch: int) -> np.ndarray:
        """Return the cuts of an epoch, kept from the last call."""
        if self._bounds[0] != epoch:
            self._bounds = (epoch, self._cuts(epoch))
        return self._bounds[1]

    def lengths(self, epoch: int) -> np.ndarray:
        """Return the predictions of every causal block, or the tokens of every masked block, (blocks, 1)."""
        return np.diff(self._of(epoch))[:, None] + len(self.prefix) + len(self.suffix)

    def row(self, epoch: int, index: int) -> dict[str, Any]:
        """Return one block; causal ones hold one token more than their predictions."""
        start, end = self._of(epoch)[index : index + 2]
        return {
            "row": index,
            "input_ids": np.concatenate([self.prefix, self.stream[start : end + self.overlap], self.suffix]),
        }


def encode(split: "Dataset", tokenizer: "PreTrainedTokenizerBase", recipe: Recipe, first: int = 0) -> Examples:
    """Turn the rows of a split into ids; what looks like a special token in the text stays text.

    Args:
        split: rows of `data.load_splits`.
        tokenizer: built with the template of the task.
        recipe: its task, its `data.too_long` and its `batch.block_size` are read.
        first: rows of the data before these, for a window of a stream.

    Raises:
        UserError: a row is too long (with `data.too_long: error`), or the text is too short for one block.
    """
    name = str(split.split or "train")
    if TASKS[recipe.task].cuts_blocks:
        return _blocks(split, name, tokenizer, recipe, first)
    columns = {"input_ids": "source", "labels": "target"} if TASKS[recipe.task].has_pairs else {"input_ids": "text"}
    sides = {side: _tokens(split, column, tokenizer, recipe, first) for side, column in columns.items()}
    classes = np.asarray(split["label"][:]) if TASKS[recipe.task].has_classes else None
    return _shortened(Examples(sides, classes), name, recipe, _longest(tokenizer, recipe, name), first)


def _tokens(split: "Dataset", column: str, tokenizer, recipe: Recipe, first: int = 0, special: bool = True) -> Ragged:
    """Return the ids of every row of a column; those of many rows from the cache, which a stream would only fill.

    Raises:
        UserError: a long row cannot be encoded in pieces.
    """
    name = str(split.split or "train")

    def where(row: int) -> str:
        return locate(recipe, name, first + row)

    def make() -> dict[str, np.ndarray]:
        made = Ragged(_encoded(split, column, tokenizer, where, special))
        return {"flat": made.flat, "offsets": made.offsets}

    if len(split) < cache.FEW_ROWS or (name == "train" and recipe.data.stream_rows is not None):
        ids = Ragged.of(**make())
    else:
        ids = Ragged.of(**cache.through(cache.key_of(split, column, tokenizer, special), make))
    if not first:  # of a stream, the first window is enough
        _warn_of_unknown(ids, split, column, tokenizer)
    return ids


def _warn_of_unknown(ids: Ragged, split: "Dataset", column: str, tokenizer) -> None:
    """Warn where more than `_MOST_UNKNOWN` of the tokens are the unknown one: they all mean the same to the model."""
    if tokenizer.unk_token_id is None or not len(ids.flat):
        return
    places = np.flatnonzero(ids.flat == tokenizer.unk_token_id)
    share = len(places) / len(ids.flat)
    if share <= _MOST_UNKNOWN:
        return
    text = split[int(np.searchsorted(ids.offsets, places[0], side="right")) - 1][column]
    is_composed = unicodedata.is_normalized("NFC", text)
    logger.warning(
        "%s data: %.1f %% of the tokens of column %s are %s, as in %r: the tokenizer was built without these characters%s",
        split.split or "train",
        100 * share,
        column,
        tokenizer.unk_token,
        text[:80],
        "" if is_composed else "; the text is decomposed Unicode, tokenizer.normalize: nfc composes it",
    )


def _encoded(
    split: "Dataset", column: str, tokenizer, where: Callable[[int], str], special: bool
) -> Iterator[Iterable[int]]:
    """Yield the ids of every row of a column, with a progress bar on the first process."""
    # Marian's tokenizer has pieces of its own for the other language.
    side, row = "text_target" if column == "target" else "text", 0
    with tqdm(
        total=len(split),
        desc=f"encode {split.split or 'train'} {column}",
        unit=" rows",
        leave=False,
        disable=None if _shows() else True,
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


def _call(tokenizer, side: str, texts, **options) -> dict[str, Any]:
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


def _long(text: str, tokenizer, side: str, special: bool) -> np.ndarray:
    """Return the ids of a text that is too long for one call, with the special tokens of the template around them.

    Raises:
        pieces.NoPlaceError: it has no place where it could be cut.
    """

    def tokens_of(piece: str) -> pieces.Tokens:
        made = _call(tokenizer, side, piece, add_special_tokens=False, return_offsets_mapping=True)
        spans = np.asarray(made["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        return np.asarray(made["input_ids"], dtype=np.int32), spans

    parts = [np.asarray(part, dtype=np.int32) for part in pieces.encode(text, tokens_of)]
    if special:  # what the template puts around a short text
        around = _call(tokenizer, side, "a", add_special_tokens=True)["input_ids"]
        bare = _call(tokenizer, side, "a", add_special_tokens=False)["input_ids"]
        begin = next(at for at in range(len(around)) if around[at : at + len(bare)] == bare)
        parts = [np.asarray(around[:begin], np.int32), *parts, np.asarray(around[begin + len(bare) :], np.int32)]
    return np.concatenate(parts)


def _shows() -> bool:
    """Tell the first process of a launch from the others, without starting accelerate; what is read ahead is not shown."""
    return os.environ.get("RANK", "0") == "0" and threading.current_thread() is threading.main_thread()


def _longest(tokenizer, recipe: Recipe, name: str) -> tuple[int, str]:
    """Return the longest row allowed, and the rule that says so."""
    limits = [
        (of_model(recipe, "max_position_embeddings"), "max_position_embeddings"),
        (int(tokenizer.model_max_length), "the tokenizer's model_max_length"),
    ]
    if name == "train":  # evaluation has a budget of its own, which any row fits
        limits.append((recipe.batch.max_tokens, "batch.max_tokens"))
        if recipe.batch.packing and recipe.batch.block_size:
            limits.append((recipe.batch.block_size, "batch.block_size"))
    return min(limits)


def of_model(recipe: Recipe, name: str) -> Any:
    """Return a number of the model's config: the recipe's own, else that of what the model starts from.

    Raises:
        UserError: `model.init_from` holds no model.
    """
    model = recipe.model
    if getattr(model, name) is not None:
        return getattr(model, name)
    if model.init_from:
        return config_values(model.init_from, recipe.variant)[name]
    return getattr(getattr(VanillaConfig, model.preset or "transformer_base")(), name)


def _shortened(examples: Examples, name: str, recipe: Recipe, limit: tuple[int, str], first: int) -> Examples:
    """Stop at rows that are too long, leave them out, or cut them before their last token, which ends the text.

    Evaluation leaves no row out, whatever the recipe says, since a figure must be about the whole split: there `skip` cuts.
    """
    longest, rule = limit
    lengths = examples.lengths(0)
    long = np.flatnonzero(lengths.max(axis=1) > longest)
    if not len(long):
        return examples
    policy = recipe.data.too_long
    if policy == "error":
        row = int(long[0])
        hint = "(data.too_long: truncate or skip goes on)"
        raise UserError(
            f"{locate(recipe, name, first + row)}: {lengths[row].max()} tokens, must be at most {rule} {longest} {hint}"
        )
    cut = policy == "truncate" or name != "train"
    logger.warning(
        "%s data: %s %d of %d rows longer than %s %d",
        name,
        "cut" if cut else "left out",
        len(long),
        len(lengths),
        rule,
        longest,
    )
    keep = np.arange(len(lengths)) if cut else np.setdiff1d(np.arange(len(lengths)), long)
    if not len(keep):
        raise UserError(
            f"data.too_long: skip leaves no {name} rows; some must be at most {rule} {longest} tokens long"
        )
    sides = {side: Ragged(_cut(ids[row], longest) for row in keep) for side, ids in examples.sides.items()}
    return Examples(sides, None if examples.classes is None else examples.classes[keep])


def _cut(ids: np.ndarray, longest: int) -> np.ndarray:
    """Keep the beginning and the last token."""
    return ids if len(ids) <= longest else np.concatenate([ids[: longest - 1], ids[-1:]])


def documents(
    split: "Dataset", tokenizer: "PreTrainedTokenizerBase", recipe: Recipe, longest: int, first: int = 0
) -> Examples:
    """Turn every line into a sequence of its own, as packed rows hold them; a longer one is cut into several.

    Causal: the end token, the line, the end token, so that exactly the tokens of the stream are predicted; pieces share one
    token. Masked: <cls>, text, <sep>; empty lines are left out.

    Args:
        split: rows of `data.load_splits`.
        tokenizer: built with the template of the task.
        recipe: its task is read.
        longest: tokens of a sequence.
        first: rows of the data before these, for a window of a stream.

    Raises:
        UserError: no line holds text.
    """
    name, causal = str(split.split or "train"), recipe.task == "causal"
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


def row_capacity(tokenizer: "PreTrainedTokenizerBase", recipe: Recipe) -> tuple[int, int]:
    """Return the tokens of a packed row, and the tokens of its longest sequence.

    Raises:
        UserError: the row is longer than the token budget.
    """
    longest, _ = _longest(tokenizer, recipe, "train")
    capacity = recipe.batch.block_size or longest
    if capacity > recipe.batch.max_tokens:
        raise UserError(f"batch.block_size: {capacity} must be at most batch.max_tokens, {recipe.batch.max_tokens}")
    return capacity, longest


def _blocks(split: "Dataset", name: str, tokenizer, recipe: Recipe, first: int) -> Blocks:
    """Join all rows into one stream; after a line of causal text stands the end token, so that line ends are predicted."""
    causal = recipe.task == "causal"
    prefix, suffix = ((), ()) if causal else ((tokenizer.cls_token_id,), (tokenizer.sep_token_id,))
    lines = _tokens(split, "text", tokenizer, recipe, first, special=False)
    ended = causal and recipe.data.text_unit == "line"
    if ended and tokenizer.eos_token_id is None:
        raise UserError(f"{name} data: the tokenizer has no end token (eos_token), which must stand after each line")
    stream = np.insert(lines.flat, lines.offsets[1:], tokenizer.eos_token_id) if ended else lines.flat
    if len(stream) < 2:
        raise UserError(
            f"{locate(recipe, name, first)}: {len(stream)} token(s) in the {name} data; there must be at least 2"
        )
    longest, rule = _longest(tokenizer, recipe, "")
    # The budget counts predictions (batching), the position table every token.
    room = [(longest - (1 if causal else 2), rule, longest)]
    room.append((recipe.batch.max_tokens - len(prefix) - len(suffix), "batch.max_tokens", recipe.batch.max_tokens))
    most, rule, limit = min(room)
    block_size = recipe.batch.block_size or most
    if not 1 <= block_size <= most:
        beside = "the token behind it" if causal else "a token before and one behind it"
        raise UserError(
            f"batch.block_size: {block_size} must be in 1..{most}, as {rule} is {limit} and a row holds a block and {beside}"
        )
    return Blocks(stream, block_size, recipe.loop.seed, int(causal), prefix, suffix)
