"""The front door of the training rows: encoded, packed where the recipe says so, and read window by window from a stream."""

from typing import TYPE_CHECKING

from train.data import encoding
from train.data.examples import Examples
from train.data.packing import Packed
from train.data.streaming import Stream, Windows
from train.errors import UserError
from train.model.start import config_value
from train.settings.recipe import Recipe

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def encode(split: "Dataset", tokenizer: "PreTrainedTokenizerBase", recipe: Recipe) -> Examples:
    """Encode the training rows, and pack them where `batch.packing` says so; a stream of them window by window.

    Raises:
        UserError: as `encoding.encode`, or rows of the stated length do not fit the model or the token budget, or a window of
            attention beside packing. Of a stream, when its first window is read.
    """
    if recipe.data.stream_rows is None:
        return encode_window(split, tokenizer, recipe)
    return Windows(Stream(recipe), lambda rows, first: encode_window(rows, tokenizer, recipe, first))


def encode_window(split: "Dataset", tokenizer: "PreTrainedTokenizerBase", recipe: Recipe, first: int = 0) -> Examples:
    """Encode and pack rows that are at hand; errors as `encode`."""
    if recipe.batch.packing and (window := config_value(recipe, "attention_window")) is not None:
        rule = "cannot go with it, as the masks of packed rows would replace the window"
        raise UserError(f"model.attention_window: {window}: batch.packing {rule}")
    capacity = encoding.row_capacity(tokenizer, recipe) if recipe.batch.packing else None
    sequences = encoding.encode(split, tokenizer, recipe, first)
    return sequences if capacity is None else Packed(sequences, capacity, recipe.loop.seed)
