# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Views of small models, from what eager's `output_attentions` and hooks at the projections give."""

from collections.abc import Callable

import torch

from modeling_vanilla.look.view import TEMPERATURES, Hypothesis, Map, Numbers, Search, Step, View

LARGEST = 200


def attention_map(kind: str, attentions, rows: list[str], columns: list[str], reads: list[str], hidden=None) -> Map:
    """Return the map of one kind, from a tuple of (1, H, T, S), one for each layer."""
    weights = torch.stack([layer[0] for layer in attentions]).float()
    hidden = torch.zeros(weights.shape[2:], dtype=torch.bool) if hidden is None else hidden
    layers, heads = (list(range(size)) for size in weights.shape[:2])
    return Map(kind, rows, columns, reads, layers, heads, weights, hidden)


def causal(size: int) -> torch.Tensor:
    """Return which keys a decoder may not see."""
    return torch.ones(size, size, dtype=torch.bool).triu(1)


class Projections:
    """What the projections of one attention module gave at its last call, cut into heads."""

    def __init__(self, module):
        self.seen = {}
        for name in ("q_proj", "k_proj", "v_proj"):
            getattr(module, name).register_forward_hook(
                lambda _, __, output, name=name: self.seen.update({name: output[0].detach()})
            )

    def numbers(self, kind: str, layer: int, head: int, heads: int) -> Numbers:
        """Return the numbers of one head."""
        cut = [self.seen[name].chunk(heads, -1)[head] for name in ("q_proj", "k_proj", "v_proj")]
        return Numbers(kind, layer, head, *cut, scaling=cut[0].shape[1] ** -0.5)


def steps(logits: torch.Tensor, written: list[int], name: Callable[[int], str]) -> list[Step]:
    """Return the steps that wrote these ids, from logits (T, V); `name` gives an id its label."""
    seen = []
    for row, token in zip(logits.float(), written, strict=True):
        values, ids = row.sort(descending=True)
        others = values[LARGEST:]
        rest = [float((others / temperature).logsumexp(-1)) for temperature in TEMPERATURES]
        labels = [name(i) for i in ids[:LARGEST].tolist()]
        seen.append(Step(name(token), labels, values[:LARGEST].tolist(), rest))
    return seen


def search_of_two() -> Search:
    """Return a search with two beams: the winner, one that ended, one that fell behind."""
    nodes = [
        Hypothesis(None, 0, "a", -0.5, "kept"),
        Hypothesis(None, 0, "b", -1.0, "kept"),
        Hypothesis(0, 1, "c", -0.9, "kept"),
        Hypothesis(1, 1, "d", -1.2, "kept"),
        Hypothesis(0, 1, "e", -2.5, "worse"),
        Hypothesis(2, 2, "</s>", -1.1, "winner"),
        Hypothesis(3, 2, "</s>", -1.9, "ended"),
    ]
    return Search(beams=2, length_penalty=1.0, nodes=nodes)


def translator_view(model, source: torch.Tensor, target: torch.Tensor, name: Callable[[int], str]) -> View:
    """Return what a translator of this package looks at while it reads `source` (S,) and writes `target` (T,).

    `target` starts with the token that starts the decoder. The last layer's cross-attention is exact, and its first head
    has its numbers; so has the first layer's second head of the decoder.
    """
    heads = model.config.num_heads
    layers = model.model.decoder.layers
    last = len(layers) - 1
    cross, own = Projections(layers[last].cross_attn), Projections(layers[0].self_attn)
    with torch.no_grad():
        output = model(input_ids=source[None], decoder_input_ids=target[None, :-1], output_attentions=True)
    columns, reads, rows = ([name(i) for i in ids.tolist()] for ids in (source, target[:-1], target[1:]))
    maps = [
        attention_map("encoder", output.encoder_attentions, columns, columns, columns),
        attention_map("decoder", output.decoder_attentions, rows, reads, reads, causal(len(reads))),
        attention_map("cross", output.cross_attentions, rows, columns, reads),
    ]
    return View(
        model="a/translator",
        architecture=type(model).__name__,
        text="".join(columns),
        target="".join(rows),
        maps=maps,
        numbers=[cross.numbers("cross", last, 0, heads), own.numbers("decoder", 0, 1, heads)],
        steps=steps(output.logits[0], target[1:].tolist(), name),
        exact=[("cross", last, head) for head in range(heads)] + [("decoder", 0, 1)],
    )
