# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What a report is measured on: texts as one pass of the model reads them, with what it should write, and with gold.

Dimension letters: B batch, T places where something is predicted, S tokens of the source, V vocabulary.
"""

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

Ids = dict[str, torch.Tensor]
Spans = list[tuple[int, int]]


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
        target: What is written; else what the model writes itself, greedily. A decoder that is given none is measured
            on the text: how well it would have written it.
        gold: For each character of the target the places of the characters of the source that decide it.

    Raises:
        ValueError: A text has no tokens, or gold does not fit.
    """
    options: dict[str, Any] = {"return_tensors": "pt", "return_offsets_mapping": gold is not None}
    read = tokenizer(source, **options)
    spans: Spans = read.pop("offset_mapping")[0].tolist() if gold is not None else []
    known = inspect.signature(model.forward).parameters
    inputs = {name: value.to(model.device) for name, value in read.items() if name in known}
    inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
    length = inputs["input_ids"].shape[1]
    if not length:
        raise ValueError(f"text: {source!r} has no tokens")
    is_translator = bool(model.config.is_encoder_decoder)
    if not is_translator and not _writes(model):
        if gold is not None or target is not None:
            raise ValueError(f"{type(model).__name__} writes nothing: it takes no target and no gold")
        return Example(inputs, list(range(length)))
    if not is_translator and target is None:
        if length < 2:
            raise ValueError(f"text: {source!r} must have at least two tokens, for the second to be written")
        return Example(inputs, list(range(length - 1)), inputs["input_ids"][0, 1:].tolist())
    labels, target_spans = _target(model, tokenizer, inputs, target, gold is not None)
    columns = None if gold is None else _columns(gold, target or "", source, target_spans, spans)
    ids = torch.tensor([labels], device=model.device)
    if is_translator:
        start = torch.full_like(ids[:, :1], _start(model))
        inputs["decoder_input_ids"] = torch.cat([start, ids[:, :-1]], 1)
        return Example(inputs, list(range(len(labels))), labels, columns)
    whole = torch.cat([inputs["input_ids"], ids], 1)
    inputs = {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
    return Example(inputs, list(range(length - 1, whole.shape[1] - 1)), labels, columns)


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


def _writes(model: PreTrainedModel) -> bool:
    return bool(model.can_generate())


def _start(model: PreTrainedModel) -> int:
    """Return the id that a decoder starts from."""
    for config in (model.generation_config, model.config):
        for name in ("decoder_start_token_id", "bos_token_id"):
            if (start := getattr(config, name, None)) is not None:
                return int(start)
    raise ValueError(f"{type(model).__name__}: its configuration has no decoder_start_token_id")


def _target(
    model: PreTrainedModel, tokenizer: Any, inputs: Ids, target: str | None, with_spans: bool
) -> tuple[list[int], Spans]:
    """Return the ids of what is written, and the characters that each stands for."""
    if target is not None:
        is_translator = bool(model.config.is_encoder_decoder)
        words = {"text_target": target} if is_translator else {"text": target, "add_special_tokens": False}
        read = tokenizer(**words, return_offsets_mapping=with_spans)
        labels, spans = list(read["input_ids"]), list(read["offset_mapping"]) if with_spans else []
    else:
        writer: Any = model  # a model that writes has `generate`, the base class has not
        ids = writer.generate(**inputs, do_sample=False, num_beams=1)[0].tolist()
        labels, spans = ids[1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1] :], []
    if not labels:
        raise ValueError(f"target: {target!r} has no tokens")
    return labels, spans


def _columns(gold: Any, target: str, source: str, target_spans: Spans, source_spans: Spans) -> list[set[int]]:
    """Turn an alignment of characters into one of tokens: those that share a character with one that is aligned."""
    if len(gold) != len(target):
        raise ValueError(f"gold: has {len(gold)} places; the target {target!r} has {len(target)} characters")
    tokens_at = [
        {column for column, (first, last) in enumerate(source_spans) if first <= place < last}
        for place in range(len(source))
    ]
    return [
        {column for character in range(first, last) for place in gold[character] for column in tokens_at[place]}
        for first, last in target_spans
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
