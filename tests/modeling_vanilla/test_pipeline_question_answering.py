# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The pipeline that answers questions finds the best spans there are, with the places they have in the text."""

import math

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering, pipeline

import tokenizer as tokenizers
from modeling_vanilla import VanillaForQuestionAnswering, VanillaForTokenClassification
from modeling_vanilla.pipeline_question_answering import _span

CONTEXT = (
    "The Amazon rainforest, also known as Amazonia, covers 5.5 million km² (40 % of South-America).\n"
    "서울은 대한민국의 수도이다. 北京是中国的首都。 It don't matter."
)
QUESTION = "What is  the capital?"
TEMPLATES = {"encoder": "encoder", "encoder-decoder": "seq2seq", "decoder": "causal"}
KINDS = ("bpe", "byte_bpe", "wordpiece", "char")


def make(build, variant, kind="bpe", **sizes):
    """Return the pipeline around a random model; a char tokenizer has no words of its own to align to."""
    texts = [CONTEXT, QUESTION]
    words = tokenizers.build(kind, texts, 330, TEMPLATES[variant], min_frequency=1, show_progress=False)
    sizes = {"vocab_size": len(words), "max_position_embeddings": 200, "jitter": 0.5} | sizes
    model = build(variant, VanillaForQuestionAnswering, **sizes)
    return pipeline("question-answering", model=model, tokenizer=words, device="cpu")


def by_hand(pipe, question, context, longest=15, words=False):
    """Score every pair of context tokens, one by one: {(first character, last + 1): score}, and the null's score.

    Nothing here is shared with the pipeline but the model and the tokenizer's ids.
    """
    encoded = pipe.tokenizer(
        question, context, return_offsets_mapping=True, return_tensors="pt", split_special_tokens=True
    )
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        out = pipe.model(**encoded)
    ids = encoded["input_ids"][0].tolist()
    places = [i for i, part in enumerate(encoded.sequence_ids(0)) if part == 1]
    null = ids.index(pipe.tokenizer.cls_token_id) if pipe.tokenizer.cls_token_id in ids else 0
    tables = []
    for logits in (out.start_logits[0].tolist(), out.end_logits[0].tolist()):
        whole = sum(math.exp(logits[i]) for i in {*places, null})
        tables.append({i: math.exp(logits[i]) / whole for i in {*places, null}})
    spans = {}
    for i in places:
        for j in places:
            if i <= j < i + longest:
                start, end = trimmed(context, offsets[i][0], offsets[j][1], words)
                score = tables[0][i] * tables[1][j]
                if start < end:
                    spans[start, end] = max(score, spans.get((start, end), 0))
    return spans, tables[0][null] * tables[1][null]


def trimmed(context, start, end, words):
    """Return a span without white space around it; with `words`, grown until both ends stand between words."""
    text = context[start:end]
    start, end = start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())
    if words and start < end:
        bounds = word_bounds(context)
        start, end = max(b for b in bounds if b <= start), min(b for b in bounds if b >= end)
    return start, end


def word_bounds(context):
    """Return the places where a word begins or ends; Han characters and Hangul syllables are words each."""
    kinds = ["one" if "一" <= c <= "龥" or "가" <= c <= "힣" else "word" if c.isalnum() else "other" for c in context]
    return [0, len(context)] + [i for i in range(1, len(context)) if (kinds[i - 1], kinds[i]) != ("word", "word")]


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize(
    ("variant", "kind"), [("encoder", kind) for kind in KINDS] + [("encoder-decoder", "bpe"), ("decoder", "byte_bpe")]
)
def test_the_answers_are_the_best_of_all_spans(build, variant, kind, words):
    pipe = make(build, variant, kind)
    expected, _ = by_hand(pipe, QUESTION, CONTEXT, words=words)
    best = sorted(expected.items(), key=lambda item: -item[1])[:20]
    found = pipe(question=QUESTION, context=CONTEXT, top_k=20, align_to_words=words)
    assert [(answer["start"], answer["end"]) for answer in found] == [span for span, _ in best]
    assert [answer["score"] for answer in found] == pytest.approx([score for _, score in best], rel=1e-4)
    for answer in found:
        assert answer["answer"] == CONTEXT[answer["start"] : answer["end"]] == answer["answer"].strip() != ""
    assert pipe(question=QUESTION, context=CONTEXT, align_to_words=words) == found[0]
    everything = pipe(question=QUESTION, context=CONTEXT, top_k=10**6, align_to_words=words)
    assert {(answer["start"], answer["end"]) for answer in everything} == set(expected)


def test_answers_are_whole_words(build):
    pipe = make(build, "encoder", "char")
    answers = [a["answer"] for a in pipe(question=QUESTION, context=CONTEXT, top_k=10**6, max_answer_len=1)]
    assert {"Amazonia", "서", "京", "5", "South", "%", "km²"} <= set(answers)
    assert not {"Amaz", "서울은", "北京", "So"} & set(answers)


@pytest.mark.parametrize("text", ["서울에서 만났다", "กรุงเทพอยู่ที่นี่", "ວຽງຈັນແມ່ນ", "北京是首都", "東京です", "ភ្នំពេញគឺ"])
def test_no_answer_is_widened_where_words_have_no_spaces(text):
    for end in range(1, len(text.split()[0])):
        assert _span(text, 0, end, whole_words=True) == (0, end)
    assert _span("Amazonia", 2, 4, whole_words=True) == (0, 8)


@pytest.mark.parametrize("longest", [1, 3])
def test_an_answer_is_no_longer_than_asked(build, longest):
    pipe = make(build, "encoder")
    expected, _ = by_hand(pipe, QUESTION, CONTEXT, longest)
    found = pipe(question=QUESTION, context=CONTEXT, top_k=10**6, max_answer_len=longest, align_to_words=False)
    assert {(answer["start"], answer["end"]) for answer in found} == set(expected)


@pytest.mark.parametrize("variant", TEMPLATES)
def test_no_answer_competes_where_it_may(build, variant):
    pipe = make(build, variant)
    spans, null = by_hand(pipe, QUESTION, CONTEXT)
    found = pipe(question=QUESTION, context=CONTEXT, top_k=10**6, handle_impossible_answer=True, align_to_words=False)
    (none,) = [answer for answer in found if not answer["answer"]]
    assert (none["start"], none["end"]) == (0, 0)
    assert none["score"] == pytest.approx(null, rel=1e-4)
    assert found.index(none) == sum(score > null for score in spans.values())
    assert all(answer["answer"] for answer in pipe(question=QUESTION, context=CONTEXT, top_k=10**6))


@pytest.mark.parametrize("variant", TEMPLATES)
def test_a_long_context_is_read_in_windows(build, variant):
    """Every window is scored by itself, by hand: the context's own characters, cut where the window's tokens are."""
    pipe = make(build, variant, "char")
    question, size, stride = "capital?", 40, 11
    tokenizer = pipe.tokenizer
    own = len(tokenizer(question, add_special_tokens=False)["input_ids"])
    room = size - own - tokenizer.num_special_tokens_to_add(pair=True)
    whole = tokenizer(question, CONTEXT, return_offsets_mapping=True, return_tensors="pt", split_special_tokens=True)
    parts = whole.sequence_ids(0)
    inside = [i for i, part in enumerate(parts) if part == 1]
    expected, nulls, starts = {}, [], range(0, len(inside) - stride, room - stride)
    for begin in starts:
        kept = [i for i, part in enumerate(parts) if part != 1 or i in inside[begin : begin + room]]
        inputs = {name: whole[name][:, kept] for name in tokenizer.model_input_names}
        with torch.no_grad():
            out = pipe.model(**inputs)
        null = 0  # <cls> under the encoder's template, the first token of the question elsewhere
        allowed = [n for n, i in enumerate(kept) if parts[i] == 1] + [null]
        start, end = (x[0, allowed].softmax(-1).tolist() for x in (out.start_logits, out.end_logits))
        nulls.append(start[-1] * end[-1])
        offsets = [whole["offset_mapping"][0, kept[n]].tolist() for n in allowed[:-1]]
        for i in range(len(offsets)):
            for j in range(i, min(i + 15, len(offsets))):
                span = trimmed(CONTEXT, offsets[i][0], offsets[j][1], words=False)
                if span[0] < span[1]:
                    expected[span] = max(start[i] * end[j], expected.get(span, 0))
    settings = {"max_seq_len": size, "doc_stride": stride, "align_to_words": False, "handle_impossible_answer": True}
    for batch_size in (1, 4):
        found = pipe(question=question, context=CONTEXT, top_k=10**6, batch_size=batch_size, **settings)
        scores = {(answer["start"], answer["end"]): answer["score"] for answer in found}
        assert len(starts) > 3
        assert scores.pop((0, 0)) == pytest.approx(min(nulls), rel=1e-4)
        assert scores.keys() == expected.keys()
        assert scores == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("variant", TEMPLATES)
def test_a_batch_answers_as_each_alone(build, variant):
    """Texts of different lengths, padded on the left for the decoder; windows of one text in several batches."""
    pipe = make(build, variant, "char")
    examples = [{"question": QUESTION[: 8 + 3 * i], "context": CONTEXT[: 20 + 40 * i]} for i in range(4)]
    settings = {"max_seq_len": 50, "top_k": 3}
    alone = [pipe(example, **settings) for example in examples]
    for batch_size in (1, 3):
        batched = pipe(examples, batch_size=batch_size, **settings)
        for one, other in zip(alone, batched, strict=True):
            assert [{**a, "score": 0} for a in one] == [{**a, "score": 0} for a in other]
            assert [a["score"] for a in one] == pytest.approx([a["score"] for a in other], rel=1e-4)


def test_the_forms_of_a_call(build):
    pipe = make(build, "encoder")
    example = {"question": QUESTION, "context": CONTEXT}
    other = {"question": "It?", "context": CONTEXT}
    one, two = pipe(example), pipe(other)
    assert set(one) == {"score", "start", "end", "answer"}
    assert pipe(question=QUESTION, context=CONTEXT) == pipe(inputs=example) == one
    assert pipe(QUESTION, CONTEXT) == pipe(data=example) == pipe(X=example) == one
    assert pipe(example, other) == pipe(data=[example, other]) == pipe(X=(example, other)) == [one, two]
    assert list(pipe(data=(example for example in (example, other)))) == [one, two]
    assert pipe.create_sample(question=QUESTION, context=CONTEXT) == example
    assert pipe(pipe.create_sample(["It?", QUESTION], [CONTEXT, CONTEXT])) == [two, one]
    assert pipe([example]) == [one]
    assert pipe((example, other)) == pipe([example, other]) == [one, two]
    assert pipe(question=[QUESTION, "It?"], context=CONTEXT) == [one, two]
    assert pipe(question=[QUESTION, "It?"], context=[CONTEXT, CONTEXT]) == [one, two]
    assert pipe(question="It?", context=[CONTEXT]) == [two]
    assert list(pipe(example for example in (example, other))) == [one, two]
    assert pipe([]) == []
    assert isinstance(pipe(example, top_k=2), list)
    assert pipe([example], top_k=2) == [pipe(example, top_k=2)]
    assert pipe(example, topk=2) == pipe(example, top_k=2) == pipe(example, topk=3, top_k=2)
    assert pipe(example, max_question_len=64) == one
    for name in ("top_k", "topk"):
        options = {name: 2, "framework": "pt", "modelcard": None}
        configured = pipeline(
            "question-answering", model=pipe.model, tokenizer=pipe.tokenizer, device="cpu", **options
        )
        assert configured(example) == pipe(example, top_k=2)


@pytest.mark.parametrize("variant", TEMPLATES)
def test_windows_that_are_filled_up_answer_alike(build, variant):
    """Padding is on the left for the decoder, whose null place is its first token."""
    pipe = make(build, variant)
    example = {"question": QUESTION, "context": CONTEXT}
    settings = {"top_k": 10**6, "handle_impossible_answer": True, "max_seq_len": 60}
    plain = {(a["start"], a["end"]): a["score"] for a in pipe(example, **settings)}
    (first, *_) = pipe.preprocess(example, max_seq_len=190, padding="max_length")
    assert first["input_ids"].shape == (1, 190)
    for padding in (True, "longest", "max_length", "do_not_pad"):
        found = {(a["start"], a["end"]): a["score"] for a in pipe(example, padding=padding, **settings)}
        assert found == pytest.approx(plain, rel=1e-3)


def test_special_tokens_that_a_user_types_are_text(build):
    pipe = make(build, "encoder")
    (row,) = pipe.preprocess({"question": "a <sep> b", "context": "<mask> x <cls>"})
    ids = row["input_ids"][0].tolist()
    assert [id for id in ids if id < 7 and id != 1] == [4, 5, 5]  # <cls> question <sep> context <sep>


def test_refusals(build):
    pipe = make(build, "encoder")
    for example, words in (
        ({"question": " ", "context": "a"}, "question is empty"),
        ({"question": "a", "context": ""}, "context is empty"),
        ({"question": "a", "text": "b"}, "lacks its context.*question, text"),
    ):
        with pytest.raises(ValueError, match=words):
            pipe(example)
    for example, words in (
        ("a", "must be a dict .* not str"),
        ({"question": 5, "context": "a"}, "question .* not int"),
    ):
        with pytest.raises(TypeError, match=words):
            pipe([example])
    for call, words in (
        ({}, "give question= and context="),
        ({"question": "a"}, "must be given together"),
        ({"question": ["a", "b"], "context": ["c"]}, "2 questions and 1 contexts"),
        ({"question": "a", "context": "b", "data": []}, "in 2 ways"),
        ({"inputs": [], "X": []}, "in 2 ways"),
    ):
        with pytest.raises(ValueError, match=words):
            pipe(**call)
    example = {"question": QUESTION, "context": CONTEXT}
    for name, value, words in (
        ("top_k", 0, "top_k=0 must be at least 1"),
        ("topk", 0, "top_k=0 must be at least 1"),
        ("max_question_len", 0, "max_question_len=0 must be at least 1"),
        ("max_question_len", 2, "the question has .* more than max_question_len=2"),
        ("padding", "wide", "wide is not a valid PaddingStrategy"),
        ("max_answer_len", 0, "max_answer_len=0"),
        ("doc_stride", -1, "doc_stride=-1"),
        ("max_seq_len", 0, "max_seq_len=0"),
        ("max_seq_len", 201, "max_seq_len=201 .* 200 tokens"),
        ("max_seq_len", 8, "the question has .* 8 tokens"),
        ("doc_stride", 200, "doc_stride=200 must be less than"),
    ):
        with pytest.raises(ValueError, match=words):
            pipe(example, **{name: value})
    with pytest.raises(TypeError, match="n_best_size"):
        pipe(example, n_best_size=3)
    for two in ((QUESTION, CONTEXT, CONTEXT), ([QUESTION], [CONTEXT])):
        with pytest.raises(TypeError, match="must be a dict"):
            pipe(*two)
    pipe.model = build(
        "encoder", VanillaForTokenClassification, vocab_size=len(pipe.tokenizer), max_position_embeddings=200
    )
    with pytest.raises(ValueError, match="start and end logits, not VanillaForTokenClassification"):
        pipe(example)


def test_models_of_others_answer_too():
    words = tokenizers.build("wordpiece", [CONTEXT, QUESTION], 330, "encoder", min_frequency=1, show_progress=False)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 29}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=200, initializer_range=0.5, **sizes)
    pipe = pipeline("question-answering", model=BertForQuestionAnswering(config), tokenizer=words, device="cpu")
    expected, _ = by_hand(pipe, QUESTION, CONTEXT)
    (start, end), score = max(expected.items(), key=lambda item: item[1])
    answer = pipe(question=QUESTION, context=CONTEXT, align_to_words=False)
    assert (answer["start"], answer["end"], answer["score"]) == (start, end, pytest.approx(score, rel=1e-4))


def test_a_saved_pipeline_answers_as_before(build, tmp_path):
    pipe = make(build, "encoder")
    pipe.save_pretrained(tmp_path)
    again = pipeline("question-answering", model=str(tmp_path), device="cpu")
    example = {"question": QUESTION, "context": CONTEXT}
    assert again(example, top_k=5) == pipe(example, top_k=5)
