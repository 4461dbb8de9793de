# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What a report is measured on: texts as one pass of the model reads them, with what it should write, and with gold.

Dimension letters: B batch, T places where something is predicted, S tokens of the source, V vocabulary.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from .reading import read

Ids = dict[str, torch.Tensor]


@dataclass
class Example:
    """One text.

    Attributes:
        inputs: What the model reads in one pass, of one row: of a model that writes, the target is among it.
        rows: T places of its output that count.
        labels: Ids of the T tokens that it writes there; None in a model that writes none.
        gold: For each of the T rows the columns of the source that decide it (none: no column does); or None.
    """

    inputs: Ids
    rows: list[int]
    labels: list[int] | None = None
    gold: list[set[int]] | None = None


def example(
    model: PreTrainedModel, tokenizer: Any, source: str, target: str | None = None, gold: Any = None
) -> Example:
    """Make an example of a text.

    Args:
        model: The model that will read it.
        tokenizer: Its tokenizer; a fast one where there is gold.
        source: The text. A decoder alone goes on from it.
        target: What is written; else what the model writes.
        gold: For each character of the target the places of the characters of the source that decide it.

    Raises:
        ValueError: What `reading.look` raises of a text; gold does not fit.
    """
    reading = read(model, tokenizer, source, target)
    inputs = reading.inputs
    inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
    if not reading.written:
        if gold is not None:
            raise ValueError(f"gold: {type(model).__name__} writes nothing")
        return Example(inputs, list(range(inputs["input_ids"].shape[1])))
    rows = list(range(reading.first, reading.first + len(reading.written)))
    columns = None if gold is None else _columns(tokenizer, source, target or "", gold, _is_translator(model))
    return Example(inputs, rows, reading.written, columns)


def read_gold(path: str | Path) -> list[dict[str, Any]]:
    """Read lines of JSON, each an object with `source`, `target` and `gold`.

    Raises:
        ValueError: A line is something else, naming it.
    """
    rows = []
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: text must be UTF-8") from None
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not _is_gold(row):
            raise ValueError(
                f"{path}:{number}: must be a JSON object with source, target and gold: for each character of target a "
                "list of the places of characters of source, from 0"
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: has no lines; at least one is needed")
    return rows


def _is_gold(row: Any) -> bool:
    """Tell whether a row has two texts and their alignment."""
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("source", "target")):
        return False
    gold, length = row.get("gold"), len(row["source"])
    if not isinstance(gold, list) or len(gold) != len(row["target"]):
        return False
    return all(isinstance(places, list) and all(_is_place(place, length) for place in places) for places in gold)


def _is_place(place: Any, length: int) -> bool:
    return isinstance(place, int) and not isinstance(place, bool) and 0 <= place < length


def _is_translator(model: PreTrainedModel) -> bool:
    return bool(model.config.is_encoder_decoder)


def _columns(tokenizer: Any, source: str, target: str, gold: Any, is_translator: bool) -> list[set[int]]:
    """Turn an alignment of characters into one of tokens: those that share a character with one that is aligned."""
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError("gold: needs a tokenizer that knows the characters of its tokens (a fast one)")
    words = {"text_target": target} if is_translator else {"text": target, "add_special_tokens": False}
    spans = [tokenizer(source, return_offsets_mapping=True), tokenizer(**words, return_offsets_mapping=True)]
    of_source, of_target = (one["offset_mapping"] for one in spans)
    if len(gold) != len(target):
        raise ValueError(f"gold: has {len(gold)} places; the target {target!r} has {len(target)} characters")
    tokens_at = [
        {column for column, (first, last) in enumerate(of_source) if first <= place < last}
        for place in range(len(source))
    ]
    return [
        {column for character in range(first, last) for place in gold[character] for column in tokens_at[place]}
        for first, last in of_target
    ]


def batch(examples: Sequence[Example], pad: int) -> Ids:
    """Join examples, with padding behind the shorter ones."""
    names = examples[0].inputs
    return {
        name: torch.nn.utils.rnn.pad_sequence(
            [one.inputs[name][0] for one in examples],
            batch_first=True,
            padding_value=pad if name.endswith("input_ids") else 0,
        )
        for name in names
    }
