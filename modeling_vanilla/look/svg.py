# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A view as SVG, written by hand: text stays text, each map is a picture of one pixel a cell. It needs no library.

Dimension letters: t rows, s columns.
"""

import base64
import struct
import unicodedata
import zlib
from html import escape
from pathlib import Path

import torch

from . import fonts
from .figure import AXES, Panel, explanation, headline, panels, scale, shades, ticks
from .view import View

# The colours of matplotlib's "Blues" (ColorBrewer, Apache 2.0), from no weight to the largest.
BLUES = ("f7fbff", "deebf7", "c6dbef", "9ecae1", "6baed6", "4292c6", "2171b5", "08519c", "08306b")
HIDDEN = "e5e5e5"
"""The colour of cells that a mask hides."""
CELL, MOST_SIDE = 18, 640
"""Side of a cell, and of a map of many cells at most, in pixels."""
SIZE, GAP = 12, 26
"""Height of a letter, and the room between panels, in pixels."""


def draw(view: View, path: Path) -> None:
    """Draw a view as SVG.

    Raises:
        ValueError: See `figure.panels`.
    """
    shown = panels(view)
    darkest = scale(shown)
    columns = min(2 if len(shown) < 12 else 4, len(shown))
    boxes = [_Box(panel) for panel in shown]
    width, height = max(box.width for box in boxes), max(box.height for box in boxes)
    lines = _wrapped(headline(view), columns * width)
    top = GAP + 20 * len(lines)
    parts = [
        f'<text x="{columns * width / 2:.0f}" y="{20 * number + 22}" class="title">{escape(_clean(line))}</text>'
        for number, line in enumerate(lines)
    ]
    for number, box in enumerate(boxes):
        x, y = number % columns * width, top + number // columns * height
        parts.append(f'<g transform="translate({x:.0f} {y:.0f})">{box.drawn(darkest)}</g>')
    bottom = top + -(-len(boxes) // columns) * height
    notes = explanation(shown[0].of, darkest).splitlines() if len(view.maps) == 1 else []
    notes = notes or shades(torch.cat([seen.hidden.flatten() for seen in view.maps]), darkest).splitlines()
    parts += [f'<text x="12" y="{bottom + 18 * n + 8}" class="note">{line}</text>' for n, line in enumerate(notes)]
    across, down = columns * width + 12, bottom + 18 * len(notes) + 8
    size = f'width="{across:.0f}" height="{down:.0f}" viewBox="0 0 {across:.0f} {down:.0f}"'
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-size="{SIZE}" '
        'font-family="DejaVu Sans, Noto Sans, Noto Sans KR, Noto Sans CJK KR, Apple SD Gothic Neo, Malgun Gothic, '
        'sans-serif">\n<style>text{fill:#222}.title{font-size:15px;text-anchor:middle}.name{text-anchor:middle}'
        ".row{text-anchor:end}.note,.side{fill:#666}.frame{fill:none;stroke:#222}image{image-rendering:pixelated}</style>\n"
        '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n",
        encoding="utf-8",
    )


class _Box:
    """A panel and its labels, with its size in pixels."""

    def __init__(self, panel: Panel):
        self.panel = panel
        self.cells = panel.weights.shape  # (t, s)
        self.sides = [min(CELL, MOST_SIDE / count) for count in self.cells]
        self.rows = [
            (at, _clean(fonts.visible(name))) for at, name in zip(*ticks(panel.of.rows, self.cells[0]), strict=True)
        ]
        self.columns = [
            (at, _clean(fonts.visible(name))) for at, name in zip(*ticks(panel.of.columns, self.cells[1]), strict=True)
        ]
        self.beside = 24 + max(_length(name) for _, name in self.rows)
        self.below = 14 + max(max(_length(name) for _, name in self.columns), SIZE)
        self.map_width, self.map_height = self.cells[1] * self.sides[1], self.cells[0] * self.sides[0]
        self.width = max(self.beside + self.map_width + GAP, _length(panel.name) + GAP)
        self.height = 22 + self.map_height + self.below + GAP

    def drawn(self, darkest: float) -> str:
        """Return the elements of this panel."""
        left, top = self.beside, 22
        names = AXES[self.panel.of.kind]
        middle, foot = left + self.map_width / 2, top + self.map_height
        image = (
            f'<image x="{left:.0f}" y="{top}" width="{self.map_width:.1f}" height="{self.map_height:.1f}" '
            f'preserveAspectRatio="none" href="{_data(self.panel, darkest)}"/>'
        )
        frame = f'<rect x="{left:.0f}" y="{top}" width="{self.map_width:.1f}" height="{self.map_height:.1f}" class="frame"/>'
        aside = f'transform="translate(12 {top + self.map_height / 2:.0f}) rotate(-90)"'
        parts = [
            f'<text x="{middle:.0f}" y="14" class="name">{escape(self.panel.name)}</text>{image}{frame}',
            f'<text {aside} class="side name">{names[0]}</text>',
            f'<text x="{middle:.0f}" y="{foot + self.below + 6:.0f}" class="side name">{names[1]}</text>',
        ]
        parts.append(f'<g font-size="{_letter(self.rows, self.sides[0]):.0f}">')
        for at, name in self.rows:
            y = top + (at + 0.5) * self.sides[0] + SIZE / 3
            parts.append(f'<text x="{left - 4:.0f}" y="{y:.1f}" class="row">{escape(name)}</text>')
        parts.append(f'</g><g font-size="{_letter(self.columns, self.sides[1]):.0f}">')
        for at, name in self.columns:
            x = left + (at + 0.5) * self.sides[1]
            if _length(name) <= CELL and self.sides[1] == CELL:
                parts.append(f'<text x="{x:.1f}" y="{foot + SIZE + 2:.1f}" class="name">{escape(name)}</text>')
            else:  # a label that is wider than its cell stands on end
                where = f'transform="translate({x + SIZE / 3:.1f} {foot + 4:.1f}) rotate(-90)"'
                parts.append(f'<text {where} class="row">{escape(name)}</text>')
        parts.append("</g>")
        return "".join(parts)


def _data(panel: Panel, darkest: float) -> str:
    """Return the cells (t, s) as the address of a PNG with a palette: a byte a cell."""
    colours = (panel.weights / darkest * 254).round().clamp(0, 254).masked_fill(panel.of.hidden, 255)
    height, width = colours.shape
    rows = b"".join(b"\0" + bytes(row) for row in colours.to(torch.uint8).tolist())
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, of a palette
    chunks = (b"IHDR", header), (b"PLTE", _palette()), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")
    image = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(image).decode()


def _palette() -> bytes:
    """Return 255 colours between those of `BLUES`, and the grey of what is hidden."""
    stops = torch.tensor([list(bytes.fromhex(colour)) for colour in BLUES], dtype=torch.float32)  # (9, 3)
    at = torch.linspace(0, len(BLUES) - 1, 255)
    low = at.floor().clamp(max=len(BLUES) - 2).long()
    colours = torch.lerp(stops[low], stops[low + 1], (at - low)[:, None])
    return bytes(colours.round().to(torch.uint8).flatten().tolist()) + bytes.fromhex(HIDDEN)


def _letter(labels: list[tuple[float, str]], side: float) -> float:
    """Return the height of a side's letters: less where the labels stand close together."""
    return min(SIZE, (labels[1][0] - labels[0][0]) * side if len(labels) > 1 else SIZE)


def _length(text: str) -> float:
    """Estimate the length of a text in pixels: a letter of Hangul is as wide as it is high."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return SIZE * (1.0 * wide + 0.62 * (len(text) - wide))


def _wrapped(text: str, width: float) -> list[str]:
    """Break a text into lines of so many pixels, at its spaces."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if not lines[-1] or _length(longer) * 1.25 < width else [lines[-1], word]
    return lines


def _clean(text: str) -> str:
    """Write what XML forbids, and what turns the direction of a line, as its code point."""
    return "".join(letter if letter.isprintable() or letter == " " else f"U+{ord(letter):04X}" for letter in text)
