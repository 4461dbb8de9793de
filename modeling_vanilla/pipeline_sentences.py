# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Where a text may be cut: between sentences, else at weaker boundaries, and how translated parts are joined again."""

import re
from collections.abc import Callable, Iterator

# What closes behind a mark, and may open before the next sentence.
_CLOSERS = r"[\"'”’»›)\]}」』】）〉》〕］]*"
_OPENERS = "\"'“‘«‹„‚([{「『【（〈《〔［¿¡"
# Marks that need white space behind them; those of East Asia stand alone.
_MARK = r"[.!?…।॥؟۔։።។။]"
_MARKS = rf"(?<!{_MARK}){_MARK}+"  # whole runs: no second try inside one
_WIDE_MARKS = r"(?:[。｡！？]|．(?!\d))+"
_BREAK = re.compile(r"[\n\r\x0b\x0c\x85\u2028\u2029]")

_SENTENCES = re.compile(
    rf"(?P<line>(?<!\s)\s*{_BREAK.pattern}\s*)"  # begins where the white space does: no second try inside it
    rf"|{_WIDE_MARKS}(?P<wide>{_CLOSERS})(?P<gap>\s*)"
    rf"|{_MARKS}{_CLOSERS}(?P<space>\s+)"
)
# From strong to weak: any end mark, clauses, words, characters. Each pattern's group is the white space of the cut.
_WEAKER = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_MARKS}{_CLOSERS}(\s+)|{_WIDE_MARKS}{_CLOSERS}(\s*)",
        rf"[,;:،؛–—]{_CLOSERS}(\s+)|[，、；：]{_CLOSERS}(\s*)",
        r"(\s+)",
        r"(?<=\S)()(?=\w)",  # not before a mark or an accent of its own
    )
)

# A full stop behind these ends no sentence. Lower case; English and German.
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr rev gen col lt sgt capt hon vs etc cf al fig figs eq eqs nos vol pp ed eds approx "
    "inc ltd co corp dept est jan feb mar apr jun jul aug sep sept oct nov dec "
    "bzw ca evtl ggf hr fr nr abs bd str usw vgl inkl exkl sog tel zzgl geb gest hrsg".split()
)


def _ends_sentence(text: str, match: re.Match) -> bool:
    """Tell whether a mark with white space behind it ends a sentence: in doubt it does not."""
    end = match.end()
    following = text[end : end + 8].lstrip(_OPENERS)[:1] if end < len(text) else ""
    if following.islower():
        return False
    mark = match[0].rstrip()
    if mark[:1] != "." or mark.startswith(".."):
        return True
    word = re.search(r"[\w.]*$", text[max(0, match.start() - 20) : match.start()])[0]
    initial = len(word) == 1 and word.lower() != word.upper()  # J. S. Bach, z. B.; not a word of one Hangul syllable
    number = word.isdigit() and len(word) < 3  # 1. item; 3. März
    return not (initial or number or "." in word or word.lower() in _ABBREVIATIONS)


def _gaps(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the white space, maybe none, between sentences; line breaks always count."""
    for match in _SENTENCES.finditer(text):
        if match["line"] is not None:
            yield match.span("line")
        elif match["gap"] is not None:
            # A quotation that the sentence goes on behind: 「はい。」と言った。
            goes_on = match["wide"] and not match["gap"] and text[match.end() : match.end() + 1] not in _OPENERS
            if not goes_on:
                yield match.span("gap")
        elif _BREAK.search(match["space"]) or _ends_sentence(text, match):
            yield match.span("space")


def _pieces(text: str, gaps) -> list[tuple[str, str]]:
    """Cut `text` at its gaps: (piece, white space behind it), which put together are the text."""
    pieces, start = [], 0
    for gap, end in gaps:
        if gap >= len(text) and gap == end:
            continue  # the end of the text is no cut
        pieces.append((text[start:gap], text[gap:end]))
        start = end
    if start < len(text):
        last = text[start:].rstrip()
        pieces.append((last, text[start + len(last) :]))
    return pieces


def split_sentences(text: str) -> list[tuple[str, str]]:
    """Split a text into (sentence, white space behind it); put together they are the text.

    A sentence ends at . ! ? and their like with white space behind them, at 。！？ without, and at every line break.
    It does not end where a lower-case letter follows, behind abbreviations, initials and numbers of one or two
    digits. White space that opens the text stands behind an empty sentence.
    """
    stripped = text.lstrip()
    first = [("", text[: len(text) - len(stripped)])] if len(stripped) < len(text) else []
    return first + _pieces(stripped, _gaps(stripped))


def split_to_fit(text: str, fits: Callable[[str], bool]) -> tuple[list[tuple[str, str]], bool]:
    """Split a text into sentences, and those that do not fit at the strongest boundaries that make them fit.

    Args:
        text: any text.
        fits: tells whether a piece is short enough.

    Returns:
        The pieces as from `split_sentences`, and whether a sentence had to be cut.

    Raises:
        ValueError: not even one character fits.
    """
    pieces, cut = [], False
    for sentence, space in split_sentences(text):
        parts = _cut(sentence, fits) if sentence and not fits(sentence) else [(sentence, "")]
        cut = cut or len(parts) > 1
        pieces += [*parts[:-1], (parts[-1][0], parts[-1][1] + space)]
    return pieces, cut


def _cut(text: str, fits: Callable[[str], bool], level: int = 0) -> list[tuple[str, str]]:
    """Cut a sentence into as few pieces as fit, at boundaries of this level or weaker ones."""
    if fits(text):
        return [(text, "")]
    if level == len(_WEAKER):
        raise ValueError(f"{text!r} does not fit, and cannot be cut")
    gaps = (match.span(match.lastindex) for match in _WEAKER[level].finditer(text))
    joined: list[tuple[str, str]] = []
    for piece, space in _pieces(text, gaps):
        if joined and fits(longer := "".join(joined[-1]) + piece):
            joined[-1] = (longer, space)
        else:
            joined.append((piece, space))
    parts = []
    for piece, space in joined:
        inner = _cut(piece, fits, level + 1)
        parts += [*inner[:-1], (inner[-1][0], inner[-1][1] + space)]
    return parts


def _wide(char: str) -> bool:
    """Tell whether a character belongs to a script that writes no spaces: Chinese, Japanese, and their marks."""
    return any(
        first <= char <= last for first, last in ("\u2e80\u30ff", "\u3400\u9fff", "\uf900\ufaff", "\uff00\uffef")
    )


def join(pieces: list[tuple[str, str]]) -> str:
    """Put translated pieces together: line breaks stay, spaces follow the script of the translation.

    Between Chinese or Japanese pieces a space is dropped, between others a missing one is added.
    """
    text, space = "", ""
    for piece, behind in pieces:
        if piece and text.strip() and not _BREAK.search(space):
            if _wide(text[-1]):
                space = space.strip(" ")
            elif not space and not _wide(piece[0]):
                space = " "
        text += space + piece
        space = behind
    return text + space
