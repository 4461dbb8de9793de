# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A view as a picture: one panel per head, rows that write from top to bottom (Vaswani et al. 2017, figures 3-5).

`panels` says what is drawn; `draw` draws it with matplotlib (PNG, PDF), `svg.draw` by hand.
Dimension letters: L layers, H heads, t rows, s columns.
"""

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import fonts
from .view import Map, View

MOST_PANELS = 64
LETTER = 0.085
"""Width of a letter of a label, in inches."""
MOST_LABELS = 80
"""Labels of a side at most; of more tokens some are left out."""
MOST_LETTERS = 160
"""Letters of the text above the panels, and of what was written."""
GREY = "0.9"
"""The shade of cells that a mask hides."""
AXES = {
    "encoder": ("looks", "is looked at"),
    "decoder": ("written", "read"),
    "cross": ("written", "read"),
}
KIND = {
    "encoder": "Self-attention of the encoder: where each token looks.",
    "decoder": "Self-attention: where the model looks\nin what it has read so far, to write each token.",
    "cross": "Cross-attention: where the decoder looks.",
}
ROWS = {
    "encoder": "Each row is a token that looks,",
    "decoder": "Each row is a token that is written, from top to bottom;",
    "cross": "Each row is a token that is written, from top to bottom;",
}
COLUMNS = {
    "encoder": "each column a token that it looks at.",
    "decoder": "each column is a token that was read before.",
    "cross": "each column is a token of the source.",
}


@dataclass
class Panel:
    """One map: its name, its weights (t, s), and the map that it is of."""

    name: str
    weights: torch.Tensor
    of: Map


def panels(view: View) -> list[Panel]:
    """Return a panel for each head of each layer, and one for their mean where a layer shows several.

    Raises:
        ValueError: There are more than a picture holds.
    """
    found = []
    several_kinds = len(view.maps) > 1
    for seen in view.maps:
        for row, layer in enumerate(seen.layers):
            where = " ".join(
                [seen.kind] * several_kinds + [f"layer {layer}, "] * (len(seen.layers) > 1 or several_kinds)
            )
            heads = seen.weights[row]
            found += [Panel(f"{where}head {head}", heads[at], seen) for at, head in enumerate(seen.heads)]
            if len(seen.heads) > 1:
                found.append(Panel(f"{where}mean of the heads", heads.mean(0), seen))
    if len(found) > MOST_PANELS:
        raise ValueError(f"{len(found)} panels; a picture has {MOST_PANELS} at most: choose layers, heads or a kind")
    return found


def scale(shown: list[Panel]) -> float:
    """Return the weight that is drawn darkest, so that a weak model is legible too.

    It is the largest weight of a row that only a tenth of the rows exceed, rounded up to two digits: the first rows of a
    decoder have few places to look at. But four times what each column would get at least: an even head is no dark one.
    """
    peaks = torch.cat([panel.weights.amax(-1) for panel in shown])
    most = max(float(peaks.quantile(0.9)), 4 / max(panel.weights.shape[1] for panel in shown))
    digit = 10.0 ** (math.floor(math.log10(most)) - 1)
    return min(1.0, math.ceil(most / digit - 1e-4) * digit)


def ticks(names: list[str], cells: int) -> tuple[list[float], list[str]]:
    """Return where labels stand, in cells, and the labels: all of them, or every n-th of a long text."""
    size = -(-len(names) // cells)  # tokens of a cell
    step = size * -(-cells // MOST_LABELS)
    return [at / size for at in range(0, len(names), step)], names[::step]


def headline(view: View) -> str:
    """Return what was read and written, as one line; of long texts the beginning."""
    texts = [view.text] if view.target is None else [view.text, view.target.replace("▁", " ").strip()]
    return "  →  ".join(text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…" for text in texts)


def explanation(seen: Map, darkest: float) -> str:
    """Say in a few lines how to read the picture."""
    lines = [KIND[seen.kind], ROWS[seen.kind], COLUMNS[seen.kind], shades(seen.hidden, darkest)]
    return "\n".join(lines)


def shades(hidden: torch.Tensor, darkest: float) -> str:
    """Say what the colours mean."""
    more = "" if darkest == 1 else " or more"
    grey = "\nGrey is what a mask hides." if hidden.any() else ""
    return f"The darker a cell, the larger the weight;\nthe darkest is {darkest:g}{more}.{grey}"


def draw(view: View, path: Path) -> None:
    """Draw a view with matplotlib, as PNG or PDF by the ending of `path`.

    Raises:
        ValueError: See `panels`.
    """
    with fonts.chosen():
        path.write_bytes(fonts.rendered(drawn(view), path.suffix.lstrip(".").lower()))


def drawn(view: View) -> Any:
    """Return a view as a figure of matplotlib; to be called and saved within `fonts.chosen()`."""
    shown = panels(view)
    from matplotlib.figure import Figure

    darkest = scale(shown)
    count = len(shown) + (len({id(panel.of) for panel in shown}) == 1)  # one place more for the explanation
    columns = min(2 if len(shown) < 12 else 4, len(shown))  # more would make the labels small where a page shows it
    rows = -(-len(shown) // columns)
    # Inches. A cell must be wide enough for a letter, and a panel has its labels beside and (on end) below it.
    below, beside = (
        LETTER * max(len(fonts.label(name)) for panel in shown for name in getattr(panel.of, side))
        for side in ("columns", "rows")
    )
    height, length = (max(panel.weights.shape[dim] for panel in shown) for dim in (0, 1))
    width = max(_inches(length) + beside + 0.5, 3.0)
    size = columns * width + 1.2, rows * max(_inches(height) + below + 0.7, 2.5) + 0.9
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    image: Any = None
    for axes, panel in zip(grid.flat, shown, strict=False):
        image = _draw_panel(axes, panel, darkest)
    for number, axes in enumerate(grid.flat):
        if number >= len(shown):
            axes.set_axis_off()
            if number == len(shown) and count > len(shown):
                text, small = explanation(shown[0].of, darkest), 11 if width > 4.2 else 9
                axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=small, linespacing=1.6, color="0.25")
            continue
        names = AXES[shown[number].of.kind]
        if number % columns == 0:
            axes.set_ylabel(names[0])
        if number + columns >= len(shown):
            axes.set_xlabel(names[1])
    figure.colorbar(
        image, ax=grid, shrink=0.5, aspect=40, label="attention weight", extend="neither" if darkest == 1 else "max"
    )
    figure.suptitle(textwrap.fill(fonts.title(headline(view)), width=int(7.5 * size[0])), fontsize=14)
    return figure


def _inches(cells: int) -> float:
    """Return the side of a panel: a fifth of an inch a cell, less where there are many."""
    return 0.2 * cells if cells <= 35 else 7.0


def _draw_panel(axes: Any, panel: Panel, darkest: float) -> Any:
    import numpy

    weights = numpy.ma.masked_array(panel.weights.numpy(), panel.of.hidden.numpy())
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=darkest, aspect="equal", interpolation="nearest")
    image.set_cmap(image.get_cmap().with_extremes(bad=GREY))
    axes.set_title(panel.name, fontsize=11, fontweight="normal")
    height, width = panel.weights.shape
    for names, cells, put in ((panel.of.columns, width, axes.set_xticks), (panel.of.rows, height, axes.set_yticks)):
        places, shown = ticks(names, cells)
        put(places, [fonts.label(name) for name in shown], fontsize=9 if cells <= 35 else 6)
    for tick in axes.get_xticklabels():  # a label that is wider than its cell stands on end
        tick.set_rotation(0 if len(tick.get_text()) <= 2 else 90)
    axes.tick_params(length=0, pad=2)
    if max(height, width) <= 35:  # faint lines between the cells lead the eye from a cell to its two labels
        axes.set_xticks([at - 0.5 for at in range(1, width)], minor=True)
        axes.set_yticks([at - 0.5 for at in range(1, height)], minor=True)
        axes.grid(which="minor", color="0.9", linewidth=0.5)
        axes.tick_params(which="minor", length=0)
    return image
