# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Texts of a report: what the model reads and writes, and gold from characters to tokens."""

import json
from itertools import pairwise

import pytest
from small_models import BUILD
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from modeling_vanilla.look.examples import example, of_row, read_gold, sentence_around, taken_over


@pytest.fixture
def tokenizer():
    """Return a tokenizer of pairs of letters and single ones, with an end behind each text."""
    letters = "abcdefghijk"
    known = ["<pad>", "<s>", "</s>", "<unk>", *letters, *map("".join, pairwise(letters))]
    vocabulary = {name: number for number, name in enumerate(known)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>", continuing_subword_prefix=""))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", bos_token="<s>")


def test_gold_of_characters_becomes_gold_of_tokens(tokenizer, randomise):
    """The source is ab, c, de, the end; the target is fg, h, the end: f needs b, g needs d, h needs c and e."""
    model = randomise(BUILD["encoder-decoder"]())
    text = example(model, tokenizer, "abc de", "fgh", [[1], [4], [2, 5]])
    assert tokenizer.convert_ids_to_tokens(text.labels) == ["fg", "h", "</s>"]
    assert text.gold == [{0, 2}, {1, 2}, set()]
    assert text.rows == [0, 1, 2]
    assert text.inputs["decoder_input_ids"].tolist() == [[model.config.decoder_start_token_id, *text.labels[:-1]]]


def test_without_a_target_the_model_writes(tokenizer, randomise):
    model = randomise(BUILD["decoder"]())
    text = example(model, tokenizer, "ab c")
    read = text.inputs["input_ids"][0].tolist()
    prompt = len(tokenizer("ab c")["input_ids"])
    assert text.labels == [*read[prompt:], text.labels[-1]]
    assert text.rows == list(range(prompt - 1, prompt - 1 + len(text.labels)))


def test_an_encoder_is_measured_at_every_token(tokenizer, randomise):
    text = example(randomise(BUILD["encoder"]()), tokenizer, "ab c")
    assert (text.labels, text.rows) == (None, [0, 1, 2])
    with pytest.raises(ValueError, match="writes nothing"):
        example(randomise(BUILD["encoder"]()), tokenizer, "ab c", None, [])


def test_gold_of_another_length(tokenizer, randomise):
    with pytest.raises(ValueError, match="gold: has 2 places; the target 'fgh' has 3 characters"):
        example(randomise(BUILD["encoder-decoder"]()), tokenizer, "abc", "fgh", [[0], [1]])


def test_a_summary_takes_over_words_that_stand_once_in_its_source():
    gold = taken_over("The net, a net of Foxes: sleep is it.", "foxes sleeps; it is a 잠")
    assert gold == [[18, 19, 20, 21, 22]] * 5 + [[]] * 9 + [[34, 35]] * 2 + [[]] + [[31, 32]] * 2 + [[], [9], [], []]


def test_without_gold_it_is_what_is_taken_over(tokenizer, randomise):
    """The source is ab, c, de, the end; the target de, k, the end."""
    text = of_row(randomise(BUILD["encoder-decoder"]()), tokenizer, {"source": "abc de", "target": "de k"})
    assert text.gold == [{2}, set(), set()]


@pytest.mark.parametrize(
    ("place", "sentence"), [(0, "One. "), (4, "One. "), (5, "2.5! "), (9, "2.5! "), (13, "Three")]
)
def test_the_sentence_around_a_place(place, sentence):
    text = "One. 2.5! Three"
    first, last = sentence_around(text, place)
    assert text[first:last] == sentence


@pytest.mark.parametrize(
    ("context", "answer", "start", "gold"),
    [
        ("ab. cd e. f", "d", 5, {4, 5, 6}),  # k, the end; ab ., cd e ., f, the end
        ("ab. cd e. f", "f", 10, {7}),
        ("ab. cd e. f", None, None, set()),
        ("ab cd", "cd", 3, set()),
    ],
)
def test_gold_of_a_question_is_the_sentence_of_its_answer(tokenizer, randomise, context, answer, start, gold):
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    row = {"context": context, "question": "k", "answer": answer, "start": start}
    text = of_row(randomise(BUILD["encoder"]()), tokenizer, row)
    tokens = tokenizer.convert_ids_to_tokens(text.inputs["input_ids"][0].tolist())
    assert (tokens[:3], tokens[-1]) == (["k", "</s>", "ab"], "</s>")
    assert (text.rows, text.gold, text.labels) == ([0], [gold], None)


def test_a_file_of_gold(tmp_path):
    rows = [{"source": "ab", "target": "c", "gold": [[0, 1]]}, {"source": "a", "target": "", "gold": []}]
    rows += [{"source": "ab", "target": "c"}, {"context": "ab", "question": "?", "answer": "b", "start": 1}]
    rows += [{"context": "ab", "question": "?", "answer": None}]
    path = tmp_path / "gold.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    assert read_gold(path) == rows
    rows = [{"source": "a\u2028b\x85", "target": "c"}] * 2
    path.write_text("\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", "utf-8")
    assert read_gold(path) == rows


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "nonsense",
        '{"source": "ab"}',
        '{"context": "ab", "question": "?", "answer": "b", "start": 0}',
        '{"context": "ab", "question": "?", "answer": "b"}',
        '{"context": "ab", "question": "?", "answer": "", "start": 0}',
        '{"context": "ab", "question": 3, "answer": null}',
        '{"question": "?", "answer": "b", "start": 0}',
        '{"source": "ab", "target": "c", "gold": [[2]]}',
        '{"source": "ab", "target": "c", "gold": [[-1]]}',
        '{"source": "ab", "target": "c", "gold": [[true]]}',
        '{"source": "ab", "target": "c", "gold": [0]}',
        '{"source": "ab", "target": "c", "gold": []}',
        '{"source": 3, "target": "c", "gold": [[0]]}',
        "[" * 5000,
    ],
)
def test_a_bad_line_of_gold(tmp_path, line):
    path = tmp_path / "gold.jsonl"
    path.write_text('{"source": "a", "target": "b", "gold": [[0]]}\n' + line, "utf-8")
    with pytest.raises(ValueError, match=r"gold.jsonl:2: must be a JSON object with source, target and gold"):
        read_gold(path)


def test_a_file_of_nothing_or_of_another_code(tmp_path):
    path = tmp_path / "gold.jsonl"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="has no lines"):
        read_gold(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="UTF-8"):
        read_gold(path)
