# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Texts are cut where sentences end, lose nothing, and are put together again in the way of their script."""

import random

import pytest

from modeling_vanilla.pipeline_sentences import join, split_sentences, split_to_fit

# "|" stands for each cut, behind the white space that belongs to it.
SPLIT = [
    "Two dogs run. |A cat sleeps! |Does it?",
    "One line\n|another line\r\n|\u2028|  ",
    'He said: "Stop!" and left. |"Go." |She went... |And then… |(Or not.) |Fine.',
    "Dr. Smith and J. S. Bach met Mr. Jones, e.g. at 3.14 p.m. in the U.S. army.",
    "It was in 1995. |Then came the 3. März.",
    "Das ist z. B. gut, d. h. usw. so. |Gut",
    "1. First item",
    "www.example.com, version 1.2.3, file.txt and a.b",
    "wait... what? |No!? |Yes",
    "¿Qué? |¡Sí! |«Bien.» |Adiós.",
    "안녕하세요. |저는 학생입니다. |네. |가격은 3.5달러입니다.",
    "你好。|再见！|“你好。”她说。|好？|",
    "「はい。」と言った。|次です。 |終わり",
    "３．１４は数です．|次",
    "यह एक वाक्य है। |दूसरा",
    "هل هذا؟ |نعم.",
    "no end",
    "...",
    " leading. |Space",
]


@pytest.mark.parametrize("marked", SPLIT)
def test_sentences(marked):
    text = marked.replace("|", "")
    pieces = [piece + space for piece, space in split_sentences(text)]
    expected = [part for part in marked.replace("\r\n|\u2028|  ", "\r\n\u2028  ").split("|") if part]
    if text[0] == " ":
        expected = [" ", expected[0][1:], *expected[1:]]
    assert pieces == expected


def test_blank_texts():
    assert split_sentences("") == []
    assert split_sentences(" \n") == [("", " \n")]


def random_texts(number=300):
    """Yield texts of everything that means something to the splitter."""
    draw = random.Random(0)
    parts = [
        "a",
        "B",
        "dog",
        "3",
        "14",
        ".",
        "!",
        "?",
        "…",
        "。",
        "！",
        "」",
        "「",
        '"',
        ")",
        ",",
        "、",
        ";",
        " ",
        "  ",
        "\n",
        "\t",
    ]
    parts += ["Dr", "é", "e\u0301", "가", "한국", "中", "の", "\u3000", "</s>"]
    for _ in range(number):
        yield "".join(draw.choices(parts, k=draw.randrange(1, 40)))


def test_nothing_is_lost_and_nothing_is_white_space():
    for text in random_texts():
        pieces = split_sentences(text)
        assert "".join(piece + space for piece, space in pieces) == text
        for number, (piece, space) in enumerate(pieces):
            assert not space.strip()
            assert piece == piece.strip()
            assert piece or number == 0
            assert "\n" not in piece


@pytest.mark.parametrize("limit", [1, 2, 5, 11])
def test_whatever_is_cut_fits(limit):
    def fits(piece):
        return len(piece) <= limit

    for text in random_texts():
        if "\u0301" in text and limit == 1:
            continue  # an accent stays with its letter
        pieces, cut = split_to_fit(text, lambda piece: fits(piece) or not any(c.isalnum() for c in piece[1:]))
        assert "".join(piece + space for piece, space in pieces) == text
        assert cut == (len(pieces) > len(split_sentences(text)))
        for piece, _ in pieces:
            assert fits(piece) or not any(c.isalnum() for c in piece[1:])


def test_the_strongest_boundary_that_is_enough():
    def cut(text, limit):
        pieces, was_cut = split_to_fit(text, lambda piece: len(piece) <= limit)
        assert was_cut
        return [piece for piece, _ in pieces]

    assert cut("Short. Mr. Smith met Dr. Miller, and then he left.", 34) == [
        "Short.",
        "Mr. Smith met Dr.",
        "Miller, and then he left.",
    ]
    assert cut("one two, three four; five six seven", 20) == ["one two, three four;", "five six seven"]
    assert cut("one two, three four; five six seven", 12) == ["one two,", "three four;", "five six", "seven"]
    assert cut("abcdefgh ij", 5) == ["abcde", "fgh", "ij"]
    assert cut("我们去学校，他们去公园。", 6) == ["我们去学校，", "他们去公园。"]
    with pytest.raises(ValueError, match="cannot be cut"):
        split_to_fit("a", lambda piece: False)


def test_joining_follows_the_script():
    assert join([("Hello.", "  "), ("Bye.", "\n\n"), ("Next", "\n")]) == "Hello.  Bye.\n\nNext\n"
    assert join([("Hello.", ""), ("Bye.", "")]) == "Hello. Bye."  # from Chinese, which has no space there
    assert join([("안녕.", ""), ("네.", "")]) == "안녕. 네."
    assert (
        join([("你好。", " "), ("再见。", "\n"), ("好。", "")]) == "你好。再见。\n好。"
    )  # from English, which has one
    assert join([("你好。", ""), ("再见。", "")]) == "你好。再见。"
    assert join([("", " "), ("Hello.", "")]) == " Hello."
    assert join([("A", " ")]) == "A "
    assert join([]) == ""


def test_a_hostile_text_takes_no_longer():
    """Runs of one character, which make a careless pattern try again from each of them."""
    for char in ' .。"!…\n,':
        for text in (char * 50_000, f"a{char * 50_000}b", f"{char} " * 20_000):
            assert "".join(piece + space for piece, space in split_sentences(text)) == text
