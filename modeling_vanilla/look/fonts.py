# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Letters in a picture: fonts that hold Hangul, labels that can be read, and a file without boxes for letters.

matplotlib is imported where it is needed: labels of pages and of SVG need none.
"""

import functools
import importlib.util
import io
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .labels import WORD_START

# Families that hold Hangul, as the systems name them; tried in this order where they are installed.
HANGUL_FONTS = (
    *("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "NanumBarunGothic", "Apple SD Gothic Neo", "AppleGothic"),
    *("Malgun Gothic", "Source Han Sans KR", "UnDotum", "Baekmuk Dotum"),
)
# A package of the index that carries NanumGothic (SIL Open Font License). Only its file is used: the package is never
# imported, because importing it changes matplotlib's settings and needs the `distutils` that Python 3.12 removed.
FONT_PACKAGE, FONT_FILE = "koreanize_matplotlib", "fonts/NanumGothic.ttf"
# Characters that leave no mark, by signs that do.
VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥", "\u00a0": "⍽", "": "∅"}


def visible(piece: str) -> str:
    """Return a token as a label: blanks made visible, but for the space before a word or the mark of a word's start."""
    piece = piece.replace(WORD_START, " ")
    piece = piece[1:] if piece.startswith(" ") and piece.strip() else piece
    return "".join(VISIBLE.get(letter, letter) for letter in VISIBLE.get(piece, piece))


@functools.cache
def families() -> tuple[str, ...]:
    """Return the families to draw with: matplotlib's own, then one that holds Hangul where there is one.

    matplotlib takes each character from the first family that has it.
    """
    from matplotlib import font_manager

    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    hangul = next((name for name in HANGUL_FONTS if name in installed), None)
    if hangul is None and (path := _packaged_font()) is not None:
        font_manager.fontManager.addfont(path)
        hangul = font_manager.FontProperties(fname=path).get_name()
    return ("DejaVu Sans", hangul) if hangul else ("DejaVu Sans",)


def _packaged_font() -> Path | None:
    """Return the font file of `FONT_PACKAGE` without importing the package; None where it is not installed."""
    spec = importlib.util.find_spec(FONT_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders if (path := Path(folder) / FONT_FILE).is_file()), None)


@functools.cache
def _characters() -> frozenset[int]:
    """Return every code point that one of the families can draw."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    paths = [font_manager.findfont(family, fallback_to_default=False) for family in families()]
    return frozenset(point for path in paths for point in FT2Font(path).get_charmap())


def drawable(text: str) -> str:
    """Return a text in which what no font can draw is written as its code point."""
    return "".join(letter if ord(letter) in _characters() else f"U+{ord(letter):04X}" for letter in text)


def label(piece: str) -> str:
    """Return a token as a label that can be drawn."""
    return drawable(visible(piece))


def title(text: str) -> str:
    """Return a readable line in which a space stays a space."""
    return drawable("".join(letter if letter == " " else VISIBLE.get(letter, letter) for letter in text))


def chosen() -> AbstractContextManager[None]:
    """Draw what is inside with these families."""
    import matplotlib

    return matplotlib.rc_context({"font.family": list(families()), "axes.unicode_minus": False})


def rendered(figure: Any, format: str = "png") -> bytes:
    """Render a figure of matplotlib; a character that no font has would be a box, so it is an error here."""
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph .* missing")
        figure.savefig(picture, dpi=130, format=format)
    return picture.getvalue()
