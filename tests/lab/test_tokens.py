# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The lab of tokens: pieces are the sentence again, and a row of the matrix is the product with a one-hot vector."""

from argparse import Namespace

from lab import tokens


def test_pieces_are_the_sentence_and_a_row_is_a_product():
    outcome = tokens.run(Namespace(seeds=1, quick=True))
    sizes, pieces, rows = outcome.tables
    for name, _, text in pieces.rows:
        assert text.replace(" ", "").replace("▁", " ").strip() == tokens.SENTENCES[name]
    for name, characters, size, *counts in sizes.rows:
        assert (characters, size) == (len(tokens.SENTENCES[name]), len(tokens.SENTENCES[name].encode()))
        assert counts == sorted(counts, reverse=True)
        lengths = [len(text.split()) for other, _, text in pieces.rows if other == name]
        assert lengths == [counts[0], counts[-1]]
    assert len(rows.rows) == sizes.rows[1][-1] + 1  # </s>
    assert outcome.conclusion.endswith("differ by 0.")
