# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A report as a table for a terminal, and as JSON."""

import json
import math
from dataclasses import asdict
from typing import Any

from .report import Figures, Report

EFFECTS = {
    "nats": "change of the log-probability of a written token, in nats",
    "KL": "divergence of the new prediction from the old, in nats a token",
    "states": "change of the last hidden states, as a share of their length",
}
LEGEND = """entropy: 0 looks at one token, 1 at all alike.  norm: of the weighted values (Kobayashi et al. 2020).
zero, uniform, permute: {effect}, when the head gives nothing,
  looks at all alike, or looks at the same places in another order.{exact}
gradient, integrated: rank correlation of the map with gradient x input, and with integrated gradients.{gold}"""
EXACT = "\nx zero, x uniform, x permute: share of texts still written to the letter by greedy search, of {exact:.3f}."
GOLD = "\ngold: share of rows whose strongest cell is gold, of {rows}; its weight on gold; the same share by norms."
WEIGHTS = "weight on gold, mean of the heads: {layers}; of equal weights {alike:.3f}"


def table(report: Report) -> str:
    """Write a report as lines: one for each head, then attention rollout and what could not be measured."""
    columns = ["kind", "layer", "head", "entropy", "norm", "zero", "uniform", "permute"]
    with_exact = report.exact is not None and report.texts > 1
    columns += ["x zero", "x uniform", "x permute"] * with_exact + ["gradient", "integrated"]
    columns += ["gold", "weight", "by norm"] * bool(report.rows_with_gold)
    rows = [columns]
    for head in report.heads:
        row = [head.kind, str(head.layer), str(head.head), _number(head.entropy), _number(head.norm)]
        row += [_number(value, "+.3f" if report.effect == "nats" else ".3f") for value in head.effects.values()]
        row += [_number(value, ".3f") for value in head.exact.values()] if with_exact else []
        row += [_number(head.gradient, "+.2f"), _number(head.integrated, "+.2f")]
        if report.rows_with_gold:
            row += [_number(value, ".3f") for value in (head.hits, head.mass, head.norm_hits)]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines += ["", *_weights(report)]
    lines += [_summary("attention rollout", report.rollout)] if report.rollout else []
    names = {"gradient": "gradient x input", "integrated": "integrated gradients"}
    lines += [_summary(names[method], figures) for method, figures in report.gradients.items()]
    lines += [f"not measured: {note}" for note in report.notes]
    exact = EXACT.format(exact=report.exact) if with_exact else ""
    gold = GOLD.format(rows=report.rows_with_gold) if report.rows_with_gold else ""
    lines += ["", f"{report.texts} text{'s' * (report.texts > 1)}."]
    lines += [LEGEND.format(effect=EFFECTS[report.effect], exact=exact, gold=gold)]
    return "\n".join(lines)


def as_json(report: Report, model: str, architecture: str) -> str:
    """Write a report as JSON; what could not be measured is null, and `error_rate` is that of the alignment."""
    content = {"model": model, "architecture": architecture, **asdict(report)}
    for head in content["heads"]:
        head["error_rate"] = 1 - head["hits"]
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)


def _weights(report: Report) -> list[str]:
    """Return a line that says how much of each layer's weight is on gold, where there is gold."""
    layers: dict[str, list[Figures]] = {}
    for head in report.heads:
        if not math.isnan(head.mass):
            layers.setdefault(f"{head.kind} layer {head.layer}", []).append(head)
    if not layers or math.isnan(report.alike):
        return []
    means = (f"{name} {_number(sum(one.mass for one in heads) / len(heads), '.3f')}" for name, heads in layers.items())
    return [WEIGHTS.format(layers=", ".join(means), alike=report.alike)]


def _summary(name: str, figures: dict[str, float]) -> str:
    labels = {"gradient": "gradient", "integrated": "integrated", "hits": "gold", "mass": "weight"}
    return f"{name}: " + ", ".join(f"{labels[key]} {_number(value, '.3f')}" for key, value in figures.items())


def _number(value: float, form: str = ".2f") -> str:
    if math.isnan(value):
        return "-"
    text = format(value, form)
    return text.replace("-", "", 1).replace("+", "") if not float(text) else text  # no -0.000


def _finite(value: Any) -> Any:
    """Replace NaN by None, all the way down."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
