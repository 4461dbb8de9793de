# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Labels of tokens: the text that a token stands for, whole letters only."""

from types import SimpleNamespace

import pytest

import tokenizer as tokenizers
from modeling_vanilla.look.labels import labels

TEXT = "금요일 Friday 👩‍🚀 é"


def vocabulary(*pieces: str) -> SimpleNamespace:
    """Return what `labels` reads of a tokenizer of SentencePiece with these tokens."""
    return SimpleNamespace(convert_ids_to_tokens=lambda ids: [pieces[i] for i in ids], all_special_tokens=["</s>"])


@pytest.mark.parametrize("kind,size", [("byte_bpe", 270), ("byte_bpe", 400), ("bpe", 120), ("char", 99)])
def test_labels_join_to_the_text(kind, size):
    """Without what numbers the parts of one letter, and with that letter once, the labels are the text."""
    tokenizer = tokenizers.build(kind, [TEXT] * 5, size, "seq2seq", min_frequency=1, show_progress=False)
    texts = labels(tokenizer, tokenizer(TEXT)["input_ids"])
    assert texts[-1] == "</s>"
    joined = "".join(text.rstrip("₁₂₃₄₅₆₇₈₉") for text in texts[:-1] if text[-1] not in "₂₃₄₅₆₇₈₉")
    assert joined.strip() == TEXT
    assert "�" not in "".join(texts)


def test_a_letter_in_several_tokens_is_whole_in_each():
    tokenizer = tokenizers.build("byte_bpe", ["abc"], 270, "seq2seq", min_frequency=1, show_progress=False)
    assert labels(tokenizer, tokenizer("a한b")["input_ids"]) == ["a", "한₁", "한₂", "한₃", "b", "</s>"]


def test_bytes_that_are_no_text_are_escapes():
    tokenizer = tokenizers.build("byte_bpe", ["abc"], 270, "seq2seq", min_frequency=1, show_progress=False)
    ids = tokenizer("a한b")["input_ids"]
    assert labels(tokenizer, [ids[2], ids[0], ids[1]]) == ["\\x95", "a", "\\xed"]


def test_pieces_of_sentencepiece():
    pieces = ("▁Hut", "s", "▁", "<0xED>", "<0x95>", "<0x9C>", "</s>", "<0xFF>")
    assert labels(vocabulary(*pieces), range(8)) == [" Hut", "s", " ", "한₁", "한₂", "한₃", "</s>", "\\xff"]
