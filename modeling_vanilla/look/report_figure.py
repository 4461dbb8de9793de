# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A report as a picture: for each head how sharp it is, and what is left without it."""

import math
from pathlib import Path
from typing import Any

from . import fonts
from .report import Figures, Report

ENDINGS = (".svg", ".png", ".pdf")
COLOURS = {"encoder": "tab:green", "decoder": "tab:orange", "cross": "tab:blue"}
KINDS = {
    "encoder": "self-attention of the encoder",
    "decoder": "self-attention of the decoder",
    "cross": "cross-attention",
}
LEFT = {
    "nats": "change of log p of a written token without it (nats)",
    "KL": "divergence of the prediction without it (nats a token)",
    "states": "change of the last states without it (share of their length)",
}


def check(path: Path) -> None:
    """See that a picture of that name can be written.

    Raises:
        ValueError: Its ending is unknown, or its folder is missing.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path}: must end in {', '.join(ENDINGS)}")
    if not path.resolve().parent.is_dir():
        raise ValueError(f"{path}: its folder must exist")


def draw(report: Report, path: Path) -> None:
    """Draw each head as a point: where it is sharp it lies to the right, where much hangs on it far from the line.

    The line is the unchanged model's.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(f"{path}: needs matplotlib: pip install 'modeling_vanilla[look]'") from None
    with_exact = report.exact is not None and report.texts > 1
    with fonts.chosen():
        figure = Figure(figsize=(7.5, 4.6), layout="constrained")
        panel: Any = figure.subplots()
        plain = (report.exact or 0.0) if with_exact else 0.0
        panel.axhline(plain, color="0.8", linewidth=1, zorder=1)
        for kind, name in KINDS.items():
            heads = [one for one in report.heads if one.kind == kind and not math.isnan(one.entropy)]
            if heads:
                left = [_left(one, with_exact) for one in heads]
                sharp = [1 - one.entropy for one in heads]
                panel.scatter(sharp, left, s=42, color=COLOURS[kind], label=name, zorder=2, alpha=0.85)
        for one in _named(report, with_exact, plain):
            gold = "" if math.isnan(one.hits) else f", gold {one.hits:.0%}"
            style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "ha": "center"}
            style["xytext"] = (0, 8) if _left(one, with_exact) >= plain - 0.1 else (0, -14)
            panel.annotate(
                f"{one.kind} {one.layer}.{one.head}{gold}", (1 - one.entropy, _left(one, with_exact)), **style
            )
        panel.margins(0.08, 0.12)
        panel.set_xlabel("sharpness: 1 - entropy / ln n (1: looks at one token)")
        panel.set_ylabel("texts still written to the letter without it" if with_exact else LEFT[report.effect])
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
        path.write_bytes(fonts.rendered(figure, path.suffix.lstrip(".").lower()))


def _left(figures: Figures, with_exact: bool) -> float:
    return figures.exact["zero"] if with_exact else figures.effects["zero"]


def _named(report: Report, with_exact: bool, plain: float) -> list[Figures]:
    """Return the heads that get a name: the three on which most hangs, the sharpest, the one that hits gold most often."""
    heads = [one for one in report.heads if not math.isnan(one.entropy)]
    named = sorted(heads, key=lambda one: -abs(_left(one, with_exact) - plain))[:3]
    named += sorted(heads, key=lambda one: one.entropy)[:1]
    named += sorted((one for one in heads if not math.isnan(one.hits)), key=lambda one: -one.hits)[:1]
    return [one for place, one in enumerate(named) if one not in named[:place]]
