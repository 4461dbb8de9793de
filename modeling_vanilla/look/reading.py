# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Let a model read a text, and write where it writes; gather what its heads looked at.

Dimension letters: L layers, H heads, T rows (queries), S columns (keys), P tokens of a prompt, V vocabulary.
"""

import math
from collections.abc import Collection, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import torch
from transformers import PreTrainedModel

from .capture import Layer, capture
from .labels import labels
from .view import CELLS, TEMPERATURES, Kind, Map, Numbers, Step, View
from .weights import Attention, averaged, cell_means

NamedHead = tuple[Kind | None, int, int]
"""A head as a user names it: without a kind it is of the last that a model has, of a translator the cross-attention."""
Head = tuple[Kind, int, int]
Text = str | tuple[str, str]
LIKELIEST = 200
MOST_NUMBERS, EXACT = 4, 4
NEW_TOKENS = 20
"""Tokens that a model writes which names no number of its own."""
UNWRITTEN = "…"
"""The label of a row whose token is not written yet."""


@dataclass(frozen=True)
class Choice:
    """What to look at; None is all.

    Attributes:
        layers: Layers, from 0.
        heads: Heads of each, from 0.
        kinds: "encoder", "decoder", "cross".
        exact: Heads whose exact weights a page keeps; the four strongest unless told.
        numbers: Heads whose queries, keys and values are kept, four at most; the strongest one unless told.
        plain: Special tokens that the text spells are text.
    """

    layers: Collection[int] | None = None
    heads: Collection[int] | None = None
    kinds: Collection[Kind] | None = None
    exact: Collection[NamedHead] | None = None
    numbers: Collection[NamedHead] | None = None
    plain: bool = False


@dataclass
class Reading:
    """The tokens of one pass.

    Attributes:
        inputs: What the model is called with.
        source: Labels of what an encoder or decoder reads: the text.
        reads: Labels of what the rows of a decoder read.
        rows: Labels of what these rows write.
        first: The first of these rows that is not of the prompt.
        written: Ids of the tokens from there on.
    """

    inputs: dict[str, torch.Tensor]
    source: list[str]
    reads: list[str]
    rows: list[str]
    first: int
    written: list[int]


def look(
    model: PreTrainedModel,
    tokenizer: Any,
    text: Text,
    target: str | None = None,
    choice: Choice = Choice(),
    name: str | None = None,
) -> View:
    """Read a text, write the continuation or the translation, and see where every chosen head looked.

    A model that writes does so with `generate` and its own settings, search and sampling included; then one pass over
    what it wrote is looked at. Its rows are those that `generate` computes, of the winner where several beams ran
    (tests/modeling_vanilla/look/test_capture.py). The model keeps its kernel, its device and its mode.

    Args:
        model: An encoder, a decoder or an encoder-decoder of transformers.
        tokenizer: Its tokenizer.
        text: What it reads, or a question and what it is asked about.
        target: What it is taken to have written, instead of writing.
        choice: Which layers, heads and kinds.
        name: The model's folder or Hub id, for the view.

    Raises:
        ValueError: The text has no tokens, or more than the model reads; a layer, head or kind does not exist; a target
            for an encoder, or none for an encoder-decoder that cannot write; see also `capture`.
    """
    _check_kinds(choice.kinds)
    with _evaluating(model):
        reading = read(model, tokenizer, text, target, choice.plain)
        kinds = None if choice.kinds is None else tuple(choice.kinds)
        with capture(model, choice.layers, choice.heads, kinds, _map) as seen:
            output = model(**reading.inputs)
        maps = [found for kind in get_args(Kind) if (found := _map_of(kind, list(seen.values()), reading))]
        ranked = strongest(maps)
        view = View(
            model=name or model.name_or_path or type(model).__name__,
            architecture=type(model).__name__,
            text=text if isinstance(text, str) else "  /  ".join(text),
            target=target if target is not None or not reading.written else _written(tokenizer, reading.written),
            maps=maps,
            exact=ranked[:EXACT] if choice.exact is None else _existing(choice.exact, maps, "exact"),
        )
        chosen = ranked[:1] if choice.numbers is None else _existing(choice.numbers, maps, "numbers")
        if len(chosen) > MOST_NUMBERS:
            raise ValueError(f"numbers of {len(chosen)} heads; at most {MOST_NUMBERS} are kept")
        view.numbers = _numbers(model, reading, chosen)
        if reading.written and getattr(output, "logits", None) is not None:
            view.steps = _steps(output.logits[0, reading.first :].float().cpu(), reading.written, tokenizer)
    return view


def strongest(maps: Collection[Map]) -> list[Head]:
    """Rank all heads by how far the row decides where they look, the most first.

    The measure is the mutual information of row and column, in nats: the entropy of the mean row less the mean entropy
    of the rows; less what it is for a head that looks at all that its mask leaves alike. A head that looks at one place
    from everywhere has no more than that.
    """
    scores: dict[Head, float] = {}
    for seen in maps:
        shares = (~seen.hidden).double()
        alike = shares / shares.sum(-1, keepdim=True).clamp(min=1)
        information = _information(seen.weights.double()) - _information(alike)  # (L, H)
        for row, layer in enumerate(seen.layers):
            for column, head in enumerate(seen.heads):
                scores[seen.kind, layer, head] = float(information[row, column])
    return sorted(scores, key=lambda head: -scores[head])


def _information(weights: torch.Tensor) -> torch.Tensor:
    """Return the mutual information (...) of row and column of weights (..., t, s), all rows equally likely."""
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)  # of averages the sum is less than 1
    return _entropy(weights.mean(-2)) - _entropy(weights).mean(-1)


def _entropy(weights: torch.Tensor) -> torch.Tensor:
    return -torch.special.xlogy(weights, weights).sum(-1)


def _check_kinds(kinds: Collection[Kind] | None) -> None:
    for kind in kinds or ():
        if kind not in get_args(Kind):
            raise ValueError(f"kind {kind!r} does not exist; one of {', '.join(get_args(Kind))}")


@contextmanager
def _evaluating(model: PreTrainedModel):
    """Run without dropout and gradients, and leave the model in the mode that it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def read(model: Any, tokenizer: Any, text: Text, target: str | None = None, as_text: bool = False) -> Reading:
    """Turn a text into the inputs of one pass, and let the model write where it can; see `look`."""
    plain = {"split_special_tokens": True} if as_text else {}
    texts = (text,) if isinstance(text, str) else text
    for name, one in zip(("TEXT", "question"), reversed(texts)):
        if not tokenizer(one, add_special_tokens=False, verbose=False, **plain)["input_ids"]:
            raise ValueError(f"{name}: has no tokens")
    encoded = tokenizer(*texts, return_tensors="pt", verbose=False, **plain).to(model.device)
    inputs = {key: encoded[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in encoded}
    most = longest(model, tokenizer)
    _check_length("TEXT", inputs["input_ids"].shape[1], most)
    source = labels(tokenizer, inputs["input_ids"][0].tolist())
    if model.config.is_encoder_decoder:
        return _translate(model, tokenizer, inputs, source, target)
    causal = any(getattr(module, "is_causal", False) for module in model.modules())
    if not causal:
        if target is not None:
            raise ValueError(f"target: {type(model).__name__} is an encoder, which writes nothing")
        return Reading(inputs, source, source, source, 0, [])
    return _continue(model, tokenizer, inputs, target, most)


def longest(model: Any, tokenizer: Any) -> int | None:
    """Return how many tokens a model reads at most; None where nothing says it."""
    config = model.config.get_text_config()
    sizes = [getattr(config, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None)]
    known = [size for size in sizes if isinstance(size, int) and 0 < size < 10**9]
    return min(known) if known else None


def _check_length(name: str, length: int, most: int | None) -> None:
    if most is not None and length > most:
        raise ValueError(f"{name}: {length} tokens; the model reads at most {most} (max_position_embeddings)")


def _translate(model: Any, tokenizer: Any, inputs: dict[str, Any], source: list[str], target: str | None) -> Reading:
    """Write with an encoder-decoder, or read a target shifted by one (Vaswani et al. 2017, sec. 3.1)."""
    inputs.pop("token_type_ids", None)
    if target is not None:
        ids = tokenizer(text_target=target, return_tensors="pt", verbose=False).to(model.device)["input_ids"]
        start = getattr(getattr(model, "generation_config", None), "decoder_start_token_id", None)
        start = model.config.decoder_start_token_id if start is None else start
        if start is None:
            raise ValueError(f"target: {type(model).__name__} has no decoder_start_token_id to begin with")
        _check_length("target", ids.shape[1], longest(model, tokenizer))
        sequence = torch.cat([ids.new_full((1, 1), start), ids], 1)  # (1, 1 + T)
    elif model.can_generate():
        sequence = model.generate(**inputs)[:1]
        if sequence.shape[1] < 2:
            raise ValueError(f"{type(model).__name__} wrote no token")
    else:
        raise ValueError(f"{type(model).__name__} has no head that writes: give it a target")
    inputs = inputs | {"decoder_input_ids": sequence[:, :-1]}
    ids = sequence[0].tolist()
    return Reading(inputs, source, labels(tokenizer, ids[:-1]), labels(tokenizer, ids)[1:], 0, ids[1:])


def _continue(model: Any, tokenizer: Any, inputs: dict[str, Any], target: str | None, most: int | None) -> Reading:
    """Continue a prompt with a decoder, or read a continuation that is given."""
    prompt = inputs["input_ids"]
    length = prompt.shape[1]
    if target is not None:
        options = {"add_special_tokens": False, "return_tensors": "pt", "verbose": False}
        ids = tokenizer(target, **options)["input_ids"].to(prompt)
        sequence = torch.cat([prompt, ids], 1)
        _check_length("TEXT and target", sequence.shape[1], most)
    elif model.can_generate() and (most is None or length < most):
        settings = {key: value for key, value in inputs.items() if key != "token_type_ids"}
        count = model.generation_config.max_new_tokens or NEW_TOKENS
        sequence = model.generate(**settings, max_new_tokens=count if most is None else min(count, most - length))[:1]
    else:
        sequence = prompt
    ids = sequence[0].tolist()
    names = labels(tokenizer, ids)
    if len(ids) == length:  # nothing was written: every row reads, and the last one's token is open
        return Reading(inputs, names, names, [*names[1:], UNWRITTEN], length - 1, [])
    inputs = {"input_ids": sequence[:, :-1], "attention_mask": torch.ones_like(sequence[:, :-1])}
    return Reading(inputs, names[:-1], names[:-1], names[1:], length - 1, ids[length:])


def _written(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True).strip()


def _map(attention: Attention) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep a map (h, t, s), averaged where it is longer than `CELLS`, and the cells that are hidden, (t, s)."""
    return averaged(CELLS)(attention)[0].cpu(), _hidden(attention)


def _hidden(attention: Attention) -> torch.Tensor:
    """Return which cells a mask forbids: those of which no pair may be seen, bool (t, s)."""
    (length, total), batch = attention.size, slice(0, 1)
    height, width = -(-length // CELLS), -(-total // CELLS)
    rows = height * max(1, CELLS // height)
    cells = []
    for first in range(0, length, rows):
        last = min(first + rows, length)
        _, hidden = attention.masked(first, last)
        shape = (1, 1, last - first, total)
        block = torch.zeros(shape) if hidden is None else hidden[batch].all(1, keepdim=True).float().expand(shape)
        cells.append(cell_means(block, height, width, total)[0, 0] == 1)
    return torch.cat(cells).cpu()


def _map_of(kind: Kind, layers: list[Layer], reading: Reading) -> Map | None:
    """Join the layers of one kind to a map; None where there are none."""
    layers = sorted((layer for layer in layers if layer.kind == kind), key=lambda layer: layer.layer)
    if not layers:
        return None
    in_source = kind == "encoder"
    reads, rows = (reading.source, reading.source) if in_source else (reading.reads, reading.rows)
    columns = reading.reads if kind == "decoder" else reading.source
    # ALBERT calls one layer's module again and again: each call is a layer.
    calls = [(layer.layer * len(layer.calls) + at, call) for layer in layers for at, call in enumerate(layer.calls)]
    shapes = {tuple(weights.shape[1:]) for _, (weights, _) in calls}
    expected = tuple(-(-len(names) // -(-len(names) // CELLS)) for names in (rows, columns))
    if shapes != {expected} or len({len(layer.heads) for layer in layers}) > 1:
        raise ValueError(f"{kind}: maps of {sorted(shapes)} cells for {len(rows)} and {len(columns)} tokens")
    weights = torch.stack([weights for _, (weights, _) in calls])
    hidden = torch.stack([hidden for _, (_, hidden) in calls]).all(0)
    return Map(kind, rows, columns, reads, [number for number, _ in calls], layers[0].heads, weights, hidden)


def _existing(heads: Collection[NamedHead], maps: Sequence[Map], option: str) -> list[Head]:
    """Return the heads that were named, all of which must be on a map."""
    on_maps = {(one.kind, layer, head) for one in maps for layer in one.layers for head in one.heads}
    named = [(kind or maps[-1].kind, layer, head) for kind, layer, head in heads]
    for kind, layer, head in named:
        if (kind, layer, head) not in on_maps:
            raise ValueError(f"{option}: no head {kind}.{layer}.{head} among those that are looked at")
    return named


def _numbers(model: PreTrainedModel, reading: Reading, chosen: Collection[Head]) -> list[Numbers]:
    """Run the pass again and keep queries, keys and values of a few heads."""

    def keep(attention: Attention) -> list[Numbers]:
        added, _ = attention.masked(0, attention.size[0])
        kept = []
        for at, head in enumerate(attention.heads):
            if (attention.kind, attention.layer, head) in chosen:
                bias = None if added is None or not added.any() else added[0, at if added.shape[1] > 1 else 0]
                query, key, value = (t[0, at].float().cpu() for t in (attention.query, attention.key, attention.value))
                bias = None if bias is None else bias.expand(attention.size).cpu()
                kept.append(Numbers(attention.kind, attention.layer, head, query, key, value, attention.scaling, bias))
        return kept

    if not chosen:
        return []
    kinds, layers = {kind for kind, _, _ in chosen}, {layer for _, layer, _ in chosen}
    with capture(model, layers, None, tuple(kinds), keep) as seen:
        model(**reading.inputs)
    kept = {(n.kind, n.layer, n.head): n for layer in seen.values() for call in layer.calls for n in call}
    return [kept[head] for head in chosen]


def _steps(logits: torch.Tensor, written: list[int], tokenizer: Any) -> list[Step]:
    """Keep of each step's logits (N, V) the largest, and what the others amount to."""
    largest = logits.topk(min(LIKELIEST, logits.shape[1]))
    others = logits.scatter(1, largest.indices, -math.inf)
    rest = torch.stack([(others / temperature).logsumexp(1) for temperature in TEMPERATURES], 1)  # (N, 9)
    names = {number: labels(tokenizer, [number])[0] for number in {*largest.indices.flatten().tolist(), *written}}
    return [
        Step(names[token], [names[number] for number in ids], values, remaining)
        for token, ids, values, remaining in zip(
            written, largest.indices.tolist(), largest.values.tolist(), rest.tolist(), strict=True
        )
    ]
