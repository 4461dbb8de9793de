# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Tokens as labels: the text that each stands for, whole letters only."""

import functools
import re
from collections.abc import Iterable
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

WORD_START = "▁"
"""How SentencePiece and Metaspace write the space before a word."""
BYTE = re.compile("<0x([0-9A-F]{2})>")
"""How SentencePiece writes a byte of a letter that it has no token for."""
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def labels(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """Return the text of each token, with the space before a word where it has one.

    A letter whose bytes lie in several tokens, as Hangul and emoji do in byte-level vocabularies, is the label of each
    of them, numbered: 한₁ 한₂ 한₃. Bytes that are no text are escapes; an id that the tokenizer lacks is its number: #31.
    """
    ids = list(ids)
    named = zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True)
    pieces = [f"#{number}" if piece is None else piece for number, piece in named]
    spelled = [_bytes(tokenizer, piece) for piece in pieces]
    texts: list[str] = []
    while len(texts) < len(pieces):
        at = len(texts)
        if spelled[at] is None:
            texts.append(pieces[at].replace(WORD_START, " "))
            continue
        # A letter of UTF-8 has 4 bytes at most; a token may end within one and begin within another.
        for end in range(at + 1, min(at + 9, len(pieces) + 1)):
            run = spelled[at:end]
            if None in run:
                break
            text = _text(b"".join(run))
            if text is not None:
                texts += (
                    [text] if len(run) == 1 else [text + f"{n}".translate(SUBSCRIPTS) for n in range(1, end - at + 1)]
                )
                break
        if len(texts) == at:
            texts.append(spelled[at].decode(errors="backslashreplace"))
    return texts


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _bytes(tokenizer: Any, piece: str) -> bytes | None:
    """Return the bytes that a token stands for; None where it is text already."""
    if match := BYTE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    if piece in tokenizer.all_special_tokens or not _is_byte_level(tokenizer):
        return None
    letters = _byte_of_letter()
    return bytes(letters[letter] for letter in piece) if all(letter in letters for letter in piece) else None


@functools.cache
def _byte_of_letter() -> dict[str, int]:
    """Return the byte for each letter of a byte-level vocabulary (Radford et al. 2019)."""
    return {letter: number for number, letter in bytes_to_unicode().items()}


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return hasattr(tokenizer, "byte_decoder") if backend is None else "ByteLevel" in str(backend.decoder)
