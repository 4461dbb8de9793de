"""Letters in a picture: fonts that hold Hangul, labels that can be read, and a file without boxes for letters."""

import functools
import importlib.util
import io
import warnings
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from train import files
from train.errors import UserError

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


@functools.cache
def families() -> tuple[str, ...]:
    """Return the families to draw with: matplotlib's own, then one that holds Hangul where there is one.

    matplotlib takes each character from the first family that has it.
    """
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
    paths = [font_manager.findfont(family, fallback_to_default=False) for family in families()]
    return frozenset(point for path in paths for point in FT2Font(path).get_charmap())


def readable(piece: str) -> str:
    """Return a label that can be read: blanks made visible, what no font can draw written as its code point."""
    shown = (VISIBLE.get(letter, letter) for letter in VISIBLE.get(piece, piece))
    return "".join(letter if ord(letter) in _characters() else f"U+{ord(letter):04X}" for letter in shown)


def label(piece: str) -> str:
    """Return a token as a label; the mark of a word's start, which looks like a line below it, is left out."""
    return readable(piece.removeprefix("▁") or " ")


def title(text: str) -> str:
    """Return a readable line in which a space stays a space."""
    return " ".join(readable(word) if word else "" for word in text.split(" "))


def chosen() -> AbstractContextManager[None]:
    """Draw what is inside with these families."""
    return matplotlib.rc_context({"font.family": list(families()), "axes.unicode_minus": False})


def require_png(output: str | Path) -> None:
    """Refuse a name that promises another kind of picture.

    Raises:
        UserError: it does not end in .png.
    """
    if Path(output).suffix.lower() != ".png":
        raise UserError(f"--output: {output}: must end in .png, the only kind of picture that is written")


def save(figure: Figure, output: Path) -> Path:
    """Write a figure; a character that no font has would be a box, so it is an error here."""
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph .* missing")
        figure.savefig(picture, dpi=130, format="png")
    output.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(output, picture.getvalue())
    return output
