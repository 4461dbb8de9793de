# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Is the picture worth anything? For each head: how sharp its map is, and what the output owes to it.

Dimension letters: L layers, H heads, T rows, S columns, K width of a head's values, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import torch
from transformers import PreTrainedModel

from .capture import capture
from .examples import Example, batch
from .interventions import CHANGES, intervene
from .measures import alignment, entropy, rank_correlation, rollout, rollout_across, weighted_norms
from .projections import output_projection
from .saliency import Explained, Saliency, gradient_times_input, integrated_gradients
from .view import Kind
from .weights import Attention

TEXTS_OF_A_PASS = 32
LONGEST = 1024
"""Tokens of a text at most: a report keeps all weights of a text at once."""


@dataclass
class Figures:
    """What was measured of one head; NaN where there is nothing to measure.

    Attributes:
        entropy: See `measures.entropy`: 0 looks at one token, 1 at all alike.
        norm: Mean over rows of the sum over columns of ||w v W^O|| (Kobayashi et al. 2020).
        effects: For each change of `CHANGES`, what it does to the output; see `Report.effect`.
        exact: For each change, the share of texts that would still be written to the letter; empty where the model
            writes none.
        gradient: Rank correlation of its map with gradient x input.
        integrated: The same with integrated gradients.
        hits: Share of the rows with gold whose strongest cell is gold; the error rate of an alignment is the rest.
        mass: Mean weight on gold.
        norm_hits: As `hits`, by the norms of the weighted values in place of the weights.
    """

    kind: Kind
    layer: int
    head: int
    entropy: float = math.nan
    norm: float = math.nan
    effects: dict[str, float] = field(default_factory=dict)
    exact: dict[str, float] = field(default_factory=dict)
    gradient: float = math.nan
    integrated: float = math.nan
    hits: float = math.nan
    mass: float = math.nan
    norm_hits: float = math.nan


@dataclass
class Report:
    """All heads of one model on some texts.

    Attributes:
        effect: What `Figures.effects` are: "nats" is the mean change of the log-probability of a written token (below 0:
            worse); "KL" the mean divergence of the new prediction from the old, in nats; "states" the length of the
            change of the last hidden states, as a share of theirs.
        exact: Share of texts that the unchanged model writes to the letter (greedy search does, if and only if each
            token is the likeliest after those before it); None where it writes none.
        rows_with_gold: How many rows have gold.
        rollout: For "source" or "text", the figures of attention rollout by the names of `Figures`.
        gradients: The same of gradient x input and of integrated gradients, against gold.
        notes: What could not be measured, and why.
        alike: The weight on gold of a head that looks at all that it may see alike: the mean over rows with gold of
            |gold| / |visible columns|. What a head's `mass` is compared with.
    """

    texts: int
    effect: str
    exact: float | None = None
    rows_with_gold: int = 0
    heads: list[Figures] = field(default_factory=list)
    rollout: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    alike: float = math.nan


class _Means:
    """Means over texts; what is NaN does not count."""

    def __init__(self) -> None:
        self.sums: dict[tuple, tuple[float, float]] = {}

    def add(self, key: tuple, value: float, count: float = 1) -> None:
        """Add the mean of `count` things."""
        if not math.isnan(value) and count:
            total, number = self.sums.get(key, (0.0, 0.0))
            self.sums[key] = (total + value * count, number + count)

    def of(self, key: tuple) -> float:
        """Return the mean, NaN of nothing."""
        total, number = self.sums.get(key, (math.nan, 1.0))
        return total / number


@dataclass
class _Seen:
    """One attention in one pass: weights (H, T, S), what is hidden (T, S), norms (H, T, S) where W^O is known."""

    weights: torch.Tensor
    hidden: torch.Tensor
    values: torch.Tensor
    norms: torch.Tensor | None = None


Maps = dict[tuple[Kind, int], _Seen]


def report(model: PreTrainedModel, texts: Sequence[Example], pad: int = 0, integrated: int = 8) -> Report:
    """Measure every head.

    Args:
        model: Any model of transformers that uses its attention interface, in evaluation mode.
        texts: What it is measured on; see `examples.example`.
        pad: The id that fills up shorter texts.
        integrated: On how many of the texts, the first ones, integrated gradients are computed: they cost
            `saliency.STEPS` passes forward and backward for each token.

    Raises:
        ValueError: There is no text, or one is too long; what `capture` raises.
    """
    if not texts:
        raise ValueError("texts: there are none; at least one is needed")
    longest = max(one.shape[1] for text in texts for name, one in text.inputs.items() if name.endswith("input_ids"))
    if longest > LONGEST:
        raise ValueError(f"text: has {longest} tokens; a report takes at most {LONGEST}, since it keeps all weights")
    result, means = Report(len(texts), ""), _Means()
    for number, text in enumerate(texts):
        maps = _seen(model, text)
        result.rows_with_gold += sum(bool(columns) for columns in text.gold or ())
        for method, saliency in _saliencies(model, text, number < integrated, result.notes).items():
            _compare(maps, text, method, saliency, means)
        _measure(maps, text, means)
    for (kind, layer), seen in sorted(maps.items(), key=lambda item: (get_args(Kind).index(item[0][0]), item[0][1])):
        result.heads += [_figures((kind, layer, head), means) for head in range(len(seen.weights))]
        if seen.norms is None:
            result.notes.append(f"norm, {kind} layer {layer}: not available: where its W^O lies is not known")
    names = ("gradient", "integrated", "hits", "mass")
    result.rollout = {name: mean for name in names if not math.isnan(mean := means.of(("rollout", name)))}
    for method in ("gradient", "integrated"):
        if not math.isnan(hits := means.of((method, "hits"))):
            result.gradients[method] = {"hits": hits, "mass": means.of((method, "mass"))}
    result.alike = means.of(("alike", "mass"))
    _effects(model, texts, pad, result)
    return result


@torch.no_grad()
def _seen(model: PreTrainedModel, text: Example) -> Maps:
    """Return all weights of one pass; of a model that writes, the rows that write."""

    def reduce(attention: Attention) -> _Seen:
        blocks = list(attention.blocks())
        weights = torch.cat([weights[0] for weights, _ in blocks], 1).cpu()
        hidden = [torch.zeros_like(w[:1, :1]).bool() if h is None else h.expand(1, 1, *w.shape[2:]) for w, h in blocks]
        return _Seen(weights, torch.cat(hidden, 2)[0, 0].cpu(), attention.value[0].float().cpu())

    with capture(model, reduce=reduce) as layers:
        model(**text.inputs)
    maps: Maps = {}
    for place, layer in layers.items():
        seen = maps[place] = layer.calls[0]
        projection = output_projection(model, layer.name, len(layer.heads))
        if projection is not None:
            seen.norms = weighted_norms(seen.weights, seen.values, projection.float().cpu())
    return maps


def _saliencies(model: PreTrainedModel, text: Example, integrated: bool, notes: list[str]) -> dict[str, Saliency]:
    """Return the two saliencies of a text, as far as they can be had."""
    try:
        explained = Explained(model, text)
        methods = {"gradient": gradient_times_input} | ({"integrated": integrated_gradients} if integrated else {})
        return {name: method(explained) for name, method in methods.items()}
    except ValueError as error:
        if (note := f"gradients: not available: {error}") not in notes:
            notes.append(note)
        return {}


def _looks_at(maps: Maps, kind: Kind) -> str | None:
    """Return which input's tokens the columns of a kind are: of saliency "source" or "target"; None: of neither.

    The rows of an encoder behind which a decoder stands predict nothing, so that no gradient belongs to them.
    """
    if any(place[0] == "cross" for place in maps):
        return {"cross": "source", "decoder": "target"}.get(kind)
    return "source"


def _compare(maps: Maps, text: Example, method: str, saliency: Saliency, means: _Means) -> None:
    """Add the rank correlations of every map, and of attention rollout, with one saliency."""
    for place, seen in maps.items():
        side = _looks_at(maps, place[0])
        if side is not None:
            hidden = seen.hidden[text.rows]
            for head, value in enumerate(
                rank_correlation(seen.weights[:, text.rows], saliency[side], hidden).tolist()
            ):
                means.add((method, *place, head), value)
    flow, hidden = _flow(maps)
    means.add(("rollout", method), float(rank_correlation(flow[text.rows], saliency["source"], hidden[text.rows])))
    if text.gold is not None:
        weights = saliency["source"] / saliency["source"].sum(-1, keepdim=True).clamp(min=1e-30)
        _against_gold(weights, text.gold, (method,), means)


def _measure(maps: Maps, text: Example, means: _Means) -> None:
    """Add what the maps of one text say by themselves, and against gold."""
    for place, seen in maps.items():
        for head, value in enumerate(entropy(seen.weights, seen.hidden).tolist()):
            means.add(("entropy", *place, head), value)
        if seen.norms is not None:
            for head, value in enumerate(seen.norms.sum(-1).mean(-1).tolist()):
                means.add(("norm", *place, head), value)
        if text.gold is not None and _looks_at(maps, place[0]) == "source":
            for head, weights in enumerate(seen.weights):
                _against_gold(weights[text.rows], text.gold, (*place, head), means)
            for head, norms in enumerate(seen.norms if seen.norms is not None else ()):
                _against_gold(norms[text.rows], text.gold, ("norm", *place, head), means)
    if text.gold is not None:
        flow, hidden = _flow(maps)
        _against_gold(flow[text.rows], text.gold, ("rollout",), means)
        visible = (~hidden[text.rows]).float()
        _against_gold(visible / visible.sum(-1, keepdim=True), text.gold, ("alike",), means)


def _against_gold(weights: torch.Tensor, gold: list[set[int]], key: tuple, means: _Means) -> None:
    hits, mass, rows = alignment(weights, gold)
    if rows:
        means.add((*key, "hits"), float(hits) / rows, rows)
        means.add((*key, "mass"), float(mass) / rows, rows)


def _flow(maps: Maps) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rollout of a model to its source, (T, S), and what of it is hidden."""
    means = {place: seen.weights.mean(0) for place, seen in sorted(maps.items())}
    layers = {
        kind: [mean for place, mean in means.items() if place[0] == kind] for kind in ("encoder", "decoder", "cross")
    }
    hidden = {place[0]: seen.hidden for place, seen in maps.items()}
    if not layers["cross"]:
        kind: Kind = "encoder" if layers["encoder"] else "decoder"
        return rollout(layers[kind]), hidden[kind]
    return rollout_across(layers["decoder"], layers["cross"], rollout(layers["encoder"])), hidden["cross"]


def _figures(place: tuple[Kind, int, int], means: _Means) -> Figures:
    """Return the means of one head."""
    figures = Figures(*place, entropy=means.of(("entropy", *place)), norm=means.of(("norm", *place)))
    figures.gradient, figures.integrated = means.of(("gradient", *place)), means.of(("integrated", *place))
    figures.hits, figures.mass = means.of((*place, "hits")), means.of((*place, "mass"))
    figures.norm_hits = means.of(("norm", *place, "hits"))
    return figures


def _effects(model: PreTrainedModel, texts: Sequence[Example], pad: int, result: Report) -> None:
    """Change every head in every way, and compare the output with that of the unchanged model."""
    result.effect, means = _kind_of_effect(model, texts[0]), _Means()
    for first in range(0, len(texts), TEXTS_OF_A_PASS):
        group = texts[first : first + TEXTS_OF_A_PASS]
        inputs = batch(group, pad)
        plain = _output(model, inputs)
        _add_effects(plain, plain, group, ("plain",), means, result.effect)
        for one in result.heads:
            for change in CHANGES:
                with intervene(model, (one.kind, one.layer, one.head), change):
                    changed = _output(model, inputs)
                key = (one.kind, one.layer, one.head, change)
                _add_effects(plain, changed, group, key, means, result.effect)
    if result.effect == "nats":
        result.exact = means.of(("plain", "exact"))
    for one in result.heads:
        for change in CHANGES:
            key = (one.kind, one.layer, one.head, change)
            one.effects[change] = means.of((*key, "effect"))
            if result.exact is not None:
                one.exact[change] = means.of((*key, "exact"))


def _kind_of_effect(model: PreTrainedModel, text: Example) -> str:
    """Return "nats" for a model that writes, "KL" for another with logits, "states" for one without."""
    with torch.no_grad():
        output = model(**text.inputs)
    has_logits = getattr(output, "logits", None) is not None or getattr(output, "start_logits", None) is not None
    if not has_logits and getattr(output, "last_hidden_state", None) is None:
        raise ValueError(
            f"{type(model).__name__}: returns neither logits nor last_hidden_state: nothing can be compared"
        )
    return "states" if not has_logits else "KL" if text.labels is None else "nats"


@torch.no_grad()
def _output(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what a model says at each place: the logarithms of probabilities (B, T, V), or its last states (B, T, D).

    What is said once of a text, its class or where an answer starts and ends, is said at each place.
    """
    output = model(**inputs)
    logits = getattr(output, "logits", None)
    if getattr(output, "start_logits", None) is not None:
        ends = torch.stack([output.start_logits, output.end_logits], 1).float()  # (B, 2, T)
        padding = inputs["attention_mask"][:, None] == 0
        # V = 2 T: each of the two choices has half of the probability, so that a divergence is the mean of theirs.
        logits = ends.masked_fill(padding, torch.finfo(ends.dtype).min / 2).log_softmax(-1).flatten(1)
    if logits is None:
        return output.last_hidden_state.float().cpu()
    logits = logits if logits.dim() == 3 else logits[:, None].expand(-1, inputs["input_ids"].shape[1], -1)  # classes
    return logits.float().log_softmax(-1).cpu()


def _add_effects(
    plain: torch.Tensor, changed: torch.Tensor, texts: Sequence[Example], key: tuple, means: _Means, effect: str
) -> None:
    """Add how far the output (B, T, V) of some texts is from that of the unchanged model."""
    for number, text in enumerate(texts):
        before, after = plain[number, text.rows], changed[number, text.rows]
        count = len(text.rows)
        if effect == "nats":
            labels = torch.tensor(text.labels)
            difference = float((after - before)[torch.arange(count), labels].mean())
            means.add((*key, "exact"), float(after.argmax(-1).eq(labels).all()))
        elif effect == "KL":
            difference = float(torch.nn.functional.kl_div(after, before, log_target=True, reduction="sum") / count)
        else:
            difference = float((after - before).norm() / before.norm())
        means.add((*key, "effect"), difference, count)
