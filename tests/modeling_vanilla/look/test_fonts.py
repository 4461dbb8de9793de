# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Letters of a picture: all can be drawn, and none is a box."""

import warnings

import pytest
from matplotlib.figure import Figure

from modeling_vanilla.look import fonts


def test_hangul_and_umlauts_have_a_font():
    for letter in "가힣년월일금요äöüßÄ→␣▁éñ":
        assert fonts.drawable(letter) == letter
    assert len(fonts.families()) == 2


def test_what_no_font_has_becomes_its_code_point():
    assert fonts.label("\U0001fae8") == "U+1FAE8"
    assert fonts.title("a \U0001fae8\n") == "a U+1FAE8⏎"


def test_blanks_are_seen_but_for_the_one_before_a_word():
    pieces = ("▁Hut", " Hut", "s", "▁", " ", "a b\n", "", "  x", "</s>")
    assert [fonts.visible(piece) for piece in pieces] == ["Hut", "Hut", "s", "␣", "␣", "a␣b⏎", "∅", "␣x", "</s>"]


def test_a_letter_without_a_font_is_an_error_and_no_box():
    with fonts.chosen(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure()
        figure.suptitle("\U0001fae8")
        with pytest.raises(UserWarning, match="missing"):
            fonts.rendered(figure)
