# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What a report is measured on: texts as one pass of the model reads them, with what it should write, and with gold.

Dimension letters: B batch, T places where something is predicted, S tokens of the source, V vocabulary.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from .reading import read

Ids = dict[str, torch.Tensor]
WORD, SENTENCE_END = re.compile(r"\w+"), re.compile(r"[.!?]\s+")


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
    model: PreTrainedModel,
    tokenizer: Any,
    source: str | tuple[str, str],
    target: str | None = None,
    gold: Any = None,
) -> Example:
    """Make an example of a text.

    Args:
        model: The model that will read it.
        tokenizer: Its tokenizer; a fast one where there is gold.
        source: The text, or a question and the text that it is asked about. A decoder alone goes on from it.
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
    columns = None
    if gold is not None:
        columns = _columns(tokenizer, source, target or "", gold, bool(model.config.is_encoder_decoder))
    return Example(inputs, rows, reading.written, columns)


def of_row(model: PreTrainedModel, tokenizer: Any, row: dict[str, Any]) -> Example:
    """Make an example of a row of `read_gold`."""
    if "question" in row:
        return asked(model, tokenizer, row)
    gold = row["gold"] if "gold" in row else taken_over(row["source"], row["target"])
    return example(model, tokenizer, row["source"], row["target"], gold)


def taken_over(source: str, target: str) -> list[list[int]]:
    """Return the gold of a summary: what it takes over, it takes from where that stands in the source.

    gold(c) = {places of w in the source}, w the word around the character c of the target; empty unless w is exactly one word
    of the source, so that "the" and "of" seldom count. Words are letters and digits, compared in small letters.
    """
    found: dict[str, list[range]] = {}
    for word in WORD.finditer(source):
        found.setdefault(word.group().casefold(), []).append(range(*word.span()))
    gold: list[list[int]] = [[] for _ in target]
    for word in WORD.finditer(target):
        places = found.get(word.group().casefold(), [])
        if len(places) == 1:
            for character in range(*word.span()):
                gold[character] = list(places[0])
    return gold


def asked(model: PreTrainedModel, tokenizer: Any, row: dict[str, Any]) -> Example:
    """Make an example of a question: its tokens are the rows, the sentence that holds the answer is their gold.

    gold(t) = {tokens of the answer's sentence} for each token t of the question; empty where there is no answer, or where
    the text is one sentence, all of which would be gold.

    Raises:
        ValueError: The tokenizer is a slow one; what `reading.look` raises of a text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError("gold: needs a tokenizer that knows the characters of its tokens (a fast one)")
    question, context = row["question"], row["context"]
    text = example(model, tokenizer, (question, context))
    encoded = tokenizer(question, context, return_offsets_mapping=True)
    sides, spans = encoded.sequence_ids(0), encoded["offset_mapping"]
    first, last = (0, len(context)) if row["answer"] is None else sentence_around(context, row["start"])
    columns = set()
    if (first, last) != (0, len(context)):
        columns = {
            token
            for token, (begin, end) in enumerate(spans)
            if sides[token] == 1 and begin < last and end > first and begin < end
        }
    text.rows = [token for token, side in enumerate(sides) if side == 0]
    text.gold = [columns for _ in text.rows]
    return text


def sentence_around(text: str, place: int) -> tuple[int, int]:
    """Return the first character of the sentence around a place, and the one behind its last: it ends with . ! or ? and a space."""
    ends = [end.end() for end in SENTENCE_END.finditer(text)]
    first = max((end for end in ends if end <= place), default=0)
    return first, min((end for end in ends if end > place), default=len(text))


def read_gold(path: str | Path) -> list[dict[str, Any]]:
    """Read lines of JSON: objects with `source`, `target` and `gold`; without `gold` it is that of `taken_over`; or with `context`,
    `question`, `answer` (null: none) and `start`, whose gold is that of `asked`.

    Raises:
        ValueError: A line is something else, naming it.
    """
    rows = []
    try:
        lines = Path(path).read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: text must be UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not (_is_question(row) if "question" in row else _is_gold(row)):
            raise ValueError(
                f"{path}:{number}: must be a JSON object with source, target and gold: for each character of target a "
                "list of the places of characters of source, from 0 (without gold: words that target takes over); or with "
                "context, question, answer and start, the place of answer in context"
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: has no lines; at least one is needed")
    return rows


def _is_question(row: dict[str, Any]) -> bool:
    """Tell whether a row is a text, a question and the place of its answer."""
    answer, start = row.get("answer"), row.get("start")
    if not isinstance(row.get("context"), str) or not isinstance(row["question"], str):
        return False
    if answer is None:
        return True
    is_in_text = isinstance(answer, str) and answer != "" and _is_place(start, len(row["context"]))
    return is_in_text and row["context"].startswith(answer, start)


def _is_gold(row: dict[str, Any]) -> bool:
    """Tell whether a row has two texts, and their alignment if it has any."""
    if not all(isinstance(row.get(key), str) for key in ("source", "target")):
        return False
    if "gold" not in row:
        return True
    gold, length = row["gold"], len(row["source"])
    if not isinstance(gold, list) or len(gold) != len(row["target"]):
        return False
    return all(isinstance(places, list) and all(_is_place(place, length) for place in places) for places in gold)


def _is_place(place: Any, length: int) -> bool:
    return isinstance(place, int) and not isinstance(place, bool) and 0 <= place < length


def _columns(tokenizer: Any, source: Any, target: str, gold: Any, is_translator: bool) -> list[set[int]]:
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
