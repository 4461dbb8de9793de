# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Views of small models, from what eager's `output_attentions` and hooks at the projections give."""

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
        self.module, self.seen = module, {}
        for name in ("q_proj", "k_proj", "v_proj"):
            getattr(module, name).register_forward_hook(
                lambda _, __, output, name=name: self.seen.update({name: output[0].detach()})
            )

    def numbers(self, kind: str, layer: int, head: int, heads: int) -> Numbers:
        """Return the numbers of one head."""
        cut = [self.seen[name].chunk(heads, -1)[head] for name in ("q_proj", "k_proj", "v_proj")]
        return Numbers(kind, layer, head, *cut, scaling=cut[0].shape[1] ** -0.5)


def steps(logits: torch.Tensor, written: list[int], name) -> list[Step]:
    """Return the steps that wrote these ids, from logits (T, V); `name` gives an id its label."""
    seen = []
    for row, token in zip(logits.float(), written, strict=True):
        values, ids = row.sort(descending=True)
        others = values[LARGEST:]
        rest = [float((others / temperature).logsumexp(-1)) for temperature in TEMPERATURES]
        seen.append(Step(name(token), [name(i) for i in ids[:LARGEST]], values[:LARGEST].tolist(), rest))
    return seen


def search_of_two() -> Search:
    """Return a search with two beams: the winner, one that ended, one that fell behind."""
    return Search(
        beams=2,
        length_penalty=1.0,
        nodes=[
            Hypothesis(None, 0, "a", -0.5, "kept"),
            Hypothesis(None, 0, "b", -1.0, "kept"),
            Hypothesis(0, 1, "c", -0.9, "kept"),
            Hypothesis(1, 1, "d", -1.2, "kept"),
            Hypothesis(0, 1, "e", -2.5, "worse"),
            Hypothesis(2, 2, "</s>", -1.1, "winner"),
            Hypothesis(3, 2, "</s>", -1.9, "ended"),
        ],
    )


def translator_view(model, tokenizer, source: str, exact: int = 4) -> View:
    """Return what a translator of this package looked at while it wrote greedily."""
    heads = model.config.num_heads
    cross = [Projections(layer.cross_attn) for layer in model.model.decoder.layers]
    inputs = tokenizer(source, return_tensors="pt")
    with torch.no_grad():
        written = model.generate(**inputs, num_beams=1, do_sample=False, max_new_tokens=40)[0]
        output = model(**inputs, decoder_input_ids=written[None, :-1], output_attentions=True)
    name = lambda i: tokenizer.convert_ids_to_tokens(int(i))  # noqa: E731
    columns, reads, rows = ([name(i) for i in ids] for ids in (inputs["input_ids"][0], written[:-1], written[1:]))
    maps = [
        attention_map("encoder", output.encoder_attentions, columns, columns, columns),
        attention_map("decoder", output.decoder_attentions, rows, reads, reads, causal(len(reads))),
        attention_map("cross", output.cross_attentions, rows, columns, reads),
    ]
    last = len(cross) - 1
    return View(
        "dates",
        type(model).__name__,
        source,
        tokenizer.decode(written, skip_special_tokens=True),
        maps,
        [cross[last].numbers("cross", last, 0, heads)],
        steps(output.logits[0], written[1:].tolist(), name),
        [("cross", last, head) for head in range(exact)],
    )
