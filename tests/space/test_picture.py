# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Marked texts and tables of labels as HTML: the text is the one that was typed, and none of it is HTML."""

import importlib
import re
import sys
from html import unescape
from pathlib import Path

import pytest

SPACE = Path(__file__).resolve().parents[2] / "space"
TEXT = 'Kim  <b>"visits"\nSeoul & 부산'


@pytest.fixture
def picture(monkeypatch):
    monkeypatch.syspath_prepend(SPACE)
    for name in ("model", "picture"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("picture")


@pytest.fixture
def marks(picture):
    spans = [(0, 3, "B-PER", 0.987, 0), (5, 16, "O", 0.5, None), (17, 22, "<LOC>", 1.0, 180)]
    return [picture.Mark(*span) for span in spans]


def test_a_marked_text_is_the_text(picture, marks):
    page = picture.marked(TEXT, marks)
    without_labels = re.sub("<small>.*?</small>", "", page)
    assert unescape(re.sub("<[^>]*>", "", without_labels)) == TEXT
    assert re.findall("<mark[^>]*hue:(\\d+)[^>]*>([^<]*)<small>([^<]*)</small>", page) == [
        ("0", "Kim", "B-PER"),
        ("180", "Seoul", "&lt;LOC&gt;"),
    ]
    assert "<b>" not in page
    assert picture.marked(TEXT, []) == ""


def test_an_answer_has_no_label(picture):
    page = picture.marked(TEXT, [picture.Mark(25, 27, "", 0.5, 120)])
    assert re.findall("<mark[^>]*>(.*?)</mark>", page) == ["부산"]
    assert 'title="50.0 %"' in page


def test_a_table_has_a_row_for_each_word(picture, marks):
    rows = re.findall("<t[hd]>(.*?)</t[hd]>", picture.table(TEXT, marks, ["Word", "Label", "Probability"]))
    assert [unescape(cell) for cell in rows] == [
        *("Word", "Label", "Probability"),
        *("Kim", "B-PER", "98.7 %"),
        *('<b>"visits"', "O", "50.0 %"),
        *("Seoul", "<LOC>", "100.0 %"),
    ]
