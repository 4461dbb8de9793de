# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The pipelines that transformers has kept work with these models, and a batch of them gives what each text gives."""

import numpy as np
import pytest
import torch
from transformers import pipeline

import tokenizer as tokenizers
from modeling_vanilla import (
    VanillaForCausalLM,
    VanillaForMaskedLM,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
    VanillaModel,
)

# Of different lengths: a batch of them is padded.
TEXTS = ["Two dogs run in Berlin.", "A man in a blue shirt is standing on a ladder, and a cat sleeps.", "안녕하세요."]
TEMPLATES = {"encoder": "encoder", "encoder-decoder": "seq2seq", "decoder": "causal"}
VARIANTS = tuple(TEMPLATES)


@pytest.fixture
def make(build):
    """Return a function that makes a pipeline around a random model and a real tokenizer, out of memory."""

    def make_pipeline(task, variant, model_class, kind="bpe", **settings):
        words = tokenizers.build(kind, TEXTS, 330, TEMPLATES[variant], min_frequency=1, show_progress=False)
        sizes = {"vocab_size": len(words), "max_position_embeddings": 120, "jitter": 0.3}
        model = build(variant, model_class, **sizes, **settings)
        return pipeline(task, model=model, tokenizer=words, device="cpu")

    return make_pipeline


def same(found, expected):
    """Compare answers with their floats, wherever those are, to rounding: padding changes the order of sums."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected.keys() - {"index"}:  # of a token: its place in the padded row
            same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float | np.floating):
        assert float(found) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    else:
        assert found == expected


def logits_of(pipe, text, **options):
    """Return the logits of a text alone, without the pipeline."""
    with torch.no_grad():
        return pipe.model(**pipe.tokenizer(text, return_tensors="pt", **options)).logits[0]


@pytest.mark.parametrize("kind", ["bpe", "byte_bpe", "char"])
def test_text_generation(make, kind):
    pipe = make("text-generation", "decoder", VanillaForCausalLM, kind)
    # No special tokens, so that nothing ends early; no repetition, so that the texts differ.
    settings = {"max_new_tokens": 12, "do_sample": False, "no_repeat_ngram_size": 2}
    settings["suppress_tokens"] = list(range(7))
    alone = [pipe(text, **settings) for text in TEXTS]
    for text, (answer,) in zip(TEXTS, alone, strict=True):
        inputs = pipe.tokenizer(text, return_tensors="pt")
        (ids,) = pipe.model.generate(**inputs, **settings)
        continued = pipe.tokenizer.decode(ids[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert answer["generated_text"].startswith(text)
        assert answer["generated_text"].removeprefix(text).strip() == continued.strip() != ""
    assert pipe(TEXTS, batch_size=2, **settings) == alone
    assert pipe(TEXTS, batch_size=3, **settings) == alone


def test_fill_mask(make):
    pipe = make("fill-mask", "encoder", VanillaForMaskedLM)
    texts = ["Two <mask> run in Berlin.", "A man in a blue shirt is <mask> on a ladder, and a cat sleeps."]
    alone = [pipe(text) for text in texts]
    for text, answers in zip(texts, alone, strict=True):
        ids = pipe.tokenizer(text)["input_ids"]
        best = logits_of(pipe, text)[ids.index(pipe.tokenizer.mask_token_id)].softmax(-1).topk(5)
        assert [answer["token"] for answer in answers] == best.indices.tolist()
        assert [answer["score"] for answer in answers] == pytest.approx(best.values.tolist(), rel=1e-3)
    same(pipe(texts, batch_size=2), alone)


@pytest.mark.parametrize("variant", VARIANTS)
def test_text_classification(make, variant):
    names = {0: "good", 1: "bad", 2: "ugly"}
    pipe = make("text-classification", variant, VanillaForSequenceClassification, id2label=names)
    alone = [pipe(text, top_k=None) for text in TEXTS]
    for text, answers in zip(TEXTS, alone, strict=True):
        expected = logits_of(pipe, text).softmax(-1).tolist()
        assert {answer["label"]: answer["score"] for answer in answers} == pytest.approx(
            dict(zip(names.values(), expected, strict=True)), rel=1e-3
        )
    same(pipe(TEXTS, top_k=None, batch_size=3), alone)
    assert [pipe(text)[0]["label"] for text in TEXTS] == [answers[0]["label"] for answers in alone]


@pytest.mark.parametrize("variant", VARIANTS)
def test_token_classification(make, variant):
    names = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
    pipe = make("token-classification", variant, VanillaForTokenClassification, id2label=names)
    alone = [pipe(text, ignore_labels=[]) for text in TEXTS]
    for text, tokens in zip(TEXTS, alone, strict=True):
        encoded = pipe.tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
        best = logits_of(pipe, text).argmax(-1).tolist()
        expected = [
            (names[label], start, end)
            for label, (start, end), special in zip(
                best, encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True
            )
            if not special
        ]
        assert [(token["entity"], token["start"], token["end"]) for token in tokens] == expected
        for group in pipe(text, aggregation_strategy="simple"):
            assert "".join(group["word"].split()) == "".join(text[group["start"] : group["end"]].split())
    same(pipe(TEXTS, ignore_labels=[], batch_size=3), alone)


@pytest.mark.parametrize("variant", VARIANTS)
def test_zero_shot_classification(make, variant):
    pipe = make(
        "zero-shot-classification",
        variant,
        VanillaForSequenceClassification,
        id2label={0: "contradiction", 1: "neutral", 2: "entailment"},
        label2id={"contradiction": 0, "neutral": 1, "entailment": 2},
    )
    labels = ["animals", "people", "travel"]
    alone = [pipe(text, candidate_labels=labels) for text in TEXTS]
    for text, answer in zip(TEXTS, alone, strict=True):
        entailed = []
        for label in labels:
            inputs = pipe.tokenizer(text, f"This example is {label}.", return_tensors="pt")
            with torch.no_grad():
                entailed.append(pipe.model(**inputs).logits[0, 2])
        expected = dict(zip(labels, torch.stack(entailed).softmax(-1).tolist(), strict=True))
        assert dict(zip(answer["labels"], answer["scores"], strict=True)) == pytest.approx(expected, rel=1e-3)
        assert answer["labels"][0] == max(expected, key=expected.get)
    same(pipe(TEXTS, candidate_labels=labels, batch_size=4), alone)


@pytest.mark.parametrize("variant", ["encoder", "decoder"])
def test_feature_extraction(make, variant):
    """Not from an encoder-decoder, which would have to be told what its decoder reads."""
    pipe = make("feature-extraction", variant, VanillaModel)
    alone = [pipe(text) for text in TEXTS]
    for text, features in zip(TEXTS, alone, strict=True):
        with torch.no_grad():
            out = pipe.model(**pipe.tokenizer(text, return_tensors="pt"))
        torch.testing.assert_close(torch.tensor(features), out[0], rtol=1e-4, atol=1e-5)
    # A batch comes with its padding.
    for one, other in zip(pipe(TEXTS, batch_size=3), alone, strict=True):
        length = len(other[0])
        real = one[0][-length:] if pipe.tokenizer.padding_side == "left" else one[0][:length]
        torch.testing.assert_close(torch.tensor(real), torch.tensor(other[0]), rtol=1e-3, atol=1e-4)
