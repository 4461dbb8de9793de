# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What the browser draws: a heat map of attention as SVG, bars of guesses and marked texts as HTML.

The cells are one image with a pixel each, so that a thousand tokens cost little; the labels are text, in the fonts and
colours of the page. Every label is escaped: tokens come from whoever types.
"""

import base64
import html
import io
import math
import unicodedata

import numpy as np
from model import Mark
from PIL import Image

CELL, FONT, UNIT = 20, 14, 8.5  # pixels: a cell, a letter's height, a letter's width in a font of equal widths
NARROW = 2 * UNIT  # a label that fits above its column
STEEP = math.radians(60)  # how labels that do not fit stand above their columns
COLOUR = (99, 102, 241)  # can be told from white and from black


def heat_map(rows: list[str], columns: list[str], weights: np.ndarray, title: str) -> str:
    """Draw weights (T, S) with a label for each row and column; the strongest weight has the full colour.

    `title` is read aloud in place of the picture.
    """
    strongest = max(float(weights.max()), 1e-9)
    width, height = CELL * len(columns), CELL * len(rows)
    steep = max((_width(label) for label in columns if _width(label) > NARROW), default=0)
    left = max(map(_width, rows)) + 10
    top = max(FONT, steep * math.sin(STEEP)) + 12
    right = steep * math.cos(STEEP) + 4
    texts = [_text(left - 6, top + CELL * (i + 0.5), "end", label) for i, label in enumerate(rows)]
    for i, label in enumerate(columns):
        x = left + CELL * (i + 0.5)
        short = _width(label) <= NARROW
        texts.append(_text(x, top - 10, "middle", label) if short else _text(x, top - 8, "start", label, steep=True))
    box = f"{left + width + right:.0f} {top + height + 4:.0f}"
    # A column may shrink to 10 pixels on a narrow screen; below that the picture scrolls.
    style = f"min-width:{0.5 * (left + width + right):.0f}px"
    return (
        f'<figure class="attention"><div class="scroll"><svg role="img" aria-label="{html.escape(title)}" viewBox="0 0 {box}" '
        f'width="{box.split()[0]}" style="{style}">'
        f'<image x="{left:.0f}" y="{top:.0f}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="{_cells(weights / strongest)}"/>'
        f'<path class="grid" d="{_grid(left, top, len(columns), len(rows))}"/>{"".join(texts)}</svg></div>'
        f'<figcaption>0 <span class="scale"></span> {strongest:.2f}</figcaption></figure>'
    )


def bars(guesses: list[list[tuple[str, float]]], titles: list[str]) -> str:
    """List the guesses for each masked place, or of a label, with their probabilities; more than one list has titles."""
    lists = []
    for title, guessed in zip(titles, guesses, strict=True):
        lines = "".join(
            f'<li><span class="bar" style="width:{100 * chance:.2f}%"></span>'
            f"<span>{html.escape(token)}</span><span>{100 * chance:.1f} %</span></li>"
            for token, chance in guessed
        )
        lists.append(
            (f"<p>{html.escape(title)}</p>" if len(guesses) > 1 else "") + f'<ol class="guesses">{lines}</ol>'
        )
    return "".join(lists)


def marked(text: str, marks: list[Mark]) -> str:
    """Return a text whose marked characters have the colour of their label, and the label beside them."""
    parts, at = [], 0
    for mark in marks:
        parts.append(html.escape(text[at : mark.first]))
        characters, at = html.escape(text[mark.first : mark.behind]), mark.behind
        label = f"<small>{html.escape(mark.label)}</small>" if mark.label else ""
        style = f'style="--hue:{mark.hue}" title="{100 * mark.chance:.1f} %"'
        parts.append(characters if mark.hue is None else f"<mark {style}>{characters}{label}</mark>")
    return f'<p class="marked">{"".join(parts)}{html.escape(text[at:])}</p>' if marks else ""


def table(text: str, marks: list[Mark], heads: list[str]) -> str:
    """List marked words with their labels and probabilities."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    rows = (
        f"<tr><td>{html.escape(text[mark.first : mark.behind])}</td><td>{html.escape(mark.label)}</td>"
        f"<td>{100 * mark.chance:.1f} %</td></tr>"
        for mark in marks
    )
    return f'<table class="labels"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def alert(message: str) -> str:
    """Return a message that is seen, and read aloud, at once."""
    return f'<p class="refused" role="alert">{html.escape(message)}</p>'


def _width(label: str) -> float:
    """Estimate the width of a label in pixels: letters of East Asia are twice as wide."""
    return UNIT * sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in label)


def _text(x: float, y: float, anchor: str, label: str, steep: bool = False) -> str:
    """Place one label, its middle at the height y."""
    turn = f' transform="rotate(-60 {x:.1f} {y:.1f})"' if steep else ""
    position = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" dominant-baseline="central"'
    return f"<text {position}{turn}>{html.escape(label)}</text>"


def _grid(left: float, top: float, columns: int, rows: int) -> str:
    """Return the lines between the cells as one path."""
    lines = [f"M{left + CELL * i:.0f} {top:.0f}v{CELL * rows}" for i in range(columns + 1)]
    return "".join(lines + [f"M{left:.0f} {top + CELL * i:.0f}h{CELL * columns}" for i in range(rows + 1)])


def _cells(shares: np.ndarray) -> str:
    """Return an image with one pixel per cell, more opaque where the share is larger, as a data URL."""
    pixels = np.empty((*shares.shape, 4), dtype=np.uint8)
    pixels[..., :3] = COLOUR
    pixels[..., 3] = np.rint(255 * shares)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
