# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The pipelines from text to text say what `generate` and the tokenizer say by hand, alone and in a batch."""

import copy
import importlib
import logging

import pytest
import torch
from torch.utils.data import Dataset
from transformers import BartConfig, BartForConditionalGeneration, GenerationConfig, pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import KeyDataset

import modeling_vanilla
import tokenizer as tokenizers
from modeling_vanilla import TranslationPipeline, VanillaForConditionalGeneration, VanillaForMaskedLM

# Of 22, 19, 14, 1 and 9 tokens: a batch of them is padded.
TEXTS = [
    "A man in a blue shirt is standing on a ladder.",
    "Two dogs run, a cat sleeps! Does it?",
    "안녕하세요. 저는 학생입니다.",
    "",
    "x = 3.14 (pi)",
]
POSITIONS = 70
EOS = 3
# A small random model repeats one token for ever; forbidding that makes texts differ, and end at different places.
VARIED = {"no_repeat_ngram_size": 1}
SEARCH = {"num_beams": 3} | VARIED


@pytest.fixture(scope="module")
def words():
    return tokenizers.build("bpe", TEXTS, 160, "seq2seq", min_frequency=1, show_progress=False)


@pytest.fixture
def translator(build, words):
    """Return a translation pipeline around a random model, whose texts end sooner or later."""
    model = build(
        "encoder-decoder",
        jitter=0.3,
        vocab_size=len(words),
        max_position_embeddings=POSITIONS,
        lm_head_bias=True,
    )
    with torch.no_grad():
        model.lm_head.bias[EOS] += 2
        model.lm_head.bias[0] -= 1000  # padding is what stands behind the end, and nothing else
    return pipeline("translation", model=model, tokenizer=copy.deepcopy(words), device="cpu")


def by_hand(pipe, text, **settings):
    """Return the texts that the model writes for one text, without the pipeline."""
    inputs = pipe.tokenizer(text, return_tensors="pt")
    limit = min(inputs["input_ids"].shape[1] + 50, POSITIONS - 1)
    if "generation_config" not in settings:
        settings = {"max_new_tokens": limit} | settings
    out = pipe.model.generate(**inputs, **settings)
    return pipe.tokenizer.batch_decode(out, skip_special_tokens=True)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        VARIED,
        SEARCH,
        SEARCH | {"num_return_sequences": 2},
        {"max_new_tokens": 7},
        {"generation_config": GenerationConfig(num_beams=2, max_new_tokens=9)},
    ],
)
def test_one_text_is_generate_and_decode(translator, settings):
    for text in TEXTS:
        if text:
            found = [answer["translation_text"] for answer in translator(text, **settings)]
            assert found == by_hand(translator, text, **settings)
    assert len({translator(text, **SEARCH)[0]["translation_text"] for text in TEXTS}) == 5, "all alike prove nothing"


@pytest.mark.parametrize(
    "settings", [{}, VARIED, SEARCH, SEARCH | {"num_return_sequences": 3, "return_scores": False}]
)
@pytest.mark.parametrize("batch_size", [2, 5])
def test_a_batch_says_what_each_text_says(translator, settings, batch_size):
    alone = [translator(text, **settings) for text in TEXTS]
    batched = translator(TEXTS, batch_size=batch_size, **settings)
    assert batched == [answer if len(answer) > 1 else answer[0] for answer in alone]


def written(text, ids, pipe):
    """Return what was written of ids: without start, the end token included, and without what fills up a batch.

    Beam search fills up with the end token, where the padding has id 0.
    """
    limit = min(len(pipe.tokenizer(text)["input_ids"]) + 50, POSITIONS - 1)
    ids = ids.tolist()[1 : 1 + limit]
    return ids[: ids.index(EOS) + 1] if EOS in ids else ids


@pytest.mark.parametrize("settings", [{}, SEARCH])
def test_each_row_of_a_batch_ends_at_its_own_length(translator, settings):
    """Nothing ends a text but its length: at 50 tokens more than its input, and within the positions."""
    with torch.no_grad():
        translator.model.lm_head.bias[EOS] -= 1000
    texts = [text for text in TEXTS if text]
    answers = translator(texts, batch_size=4, return_tensors=True, **settings)
    limits = [min(len(translator.tokenizer(text)["input_ids"]) + 50, POSITIONS - 1) for text in texts]
    assert len(set(limits)) > 2
    for answer, limit in zip(answers, limits, strict=True):
        ids = answer["translation_token_ids"][1:]
        assert not set(ids[:limit].tolist()) & {0, EOS}
        assert set(ids[limit:].tolist()) <= {0, EOS}


def test_who_limits_the_length(translator):
    """The call before the folder, the folder before the default."""
    with torch.no_grad():
        translator.model.lm_head.bias[EOS] -= 1000

    def length(**settings):
        return len(translator(TEXTS[0], return_tensors=True, **settings)[0]["translation_token_ids"]) - 1

    assert length(max_new_tokens=5) == 5
    assert length(max_length=5) == 4  # the start token counts
    translator.model.generation_config.max_new_tokens = 11
    assert length() == 11
    assert length(max_new_tokens=5) == 5
    assert length(max_length=5) == 4
    assert length(generation_config=GenerationConfig(max_length=5)) == 4
    other = pipeline(
        "translation", model=translator.model, tokenizer=translator.tokenizer, max_new_tokens=8, device=-1
    )
    assert len(other(TEXTS[0], return_tensors=True)[0]["translation_token_ids"]) == 9


def teacher_forced(pipe, text, ids, length_penalty):
    """Return the score of a text written, from one forward pass over it."""
    inputs = pipe.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = pipe.model(**inputs, decoder_input_ids=torch.tensor([[2, *ids[:-1]]])).logits[0]
    steps = logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
    return float(steps.sum()) / len(ids) ** length_penalty


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 3}])
@pytest.mark.parametrize("length_penalty", [0.6, 2.0])
def test_the_score_is_the_log_probability_of_what_was_written(translator, settings, length_penalty):
    settings = settings | {"length_penalty": length_penalty, "return_scores": True}
    with torch.no_grad():
        translator.model.lm_head.bias[EOS] += 3
    texts = [text for text in TEXTS if text]
    scored = translator(texts, batch_size=3, **settings)
    as_ids = translator(texts, batch_size=3, return_tensors=True, **settings)
    ended = 0
    for text, answers, tensors in zip(texts, scored, as_ids, strict=True):
        answers, tensors = (x if isinstance(x, list) else [x] for x in (answers, tensors))
        for answer, tensor in zip(answers, tensors, strict=True):
            ids = written(text, tensor["translation_token_ids"], translator)
            ended += EOS in ids
            assert answer["score"] == pytest.approx(teacher_forced(translator, text, ids, length_penalty), rel=1e-4)
            assert answer["score"] == tensor["score"]
        scores = [answer["score"] for answer in answers]
        assert scores == sorted(scores, reverse=True)
    assert ended, "texts that end by themselves belong to this"


def test_the_score_of_a_row_that_ends_before_the_others(translator):
    """What fills up the batch behind it is not counted."""
    with torch.no_grad():
        translator.model.lm_head.bias[EOS] -= 1000
    texts = [text for text in TEXTS if text]
    answers = translator(texts, batch_size=4, return_tensors=True, return_scores=True)
    for text, answer in zip(texts, answers, strict=True):
        ids = written(text, answer["translation_token_ids"], translator)
        assert answer["score"] == pytest.approx(teacher_forced(translator, text, ids, 1.0), rel=1e-4)


def test_hypotheses_come_with_scores_and_single_answers_without(translator):
    several = translator(TEXTS[0], num_return_sequences=2, **SEARCH)
    assert [set(answer) for answer in several] == [{"translation_text", "score"}] * 2
    assert [set(answer) for answer in translator(TEXTS[0])] == [{"translation_text"}]
    inputs = translator.tokenizer(TEXTS[0], return_tensors="pt")
    out = translator.model.generate(
        **inputs, num_return_sequences=2, max_new_tokens=69, output_scores=True, return_dict_in_generate=True, **SEARCH
    )
    assert [answer["score"] for answer in several] == pytest.approx(out.sequences_scores.tolist())


class Rows(Dataset):
    """Rows of a data set."""

    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, index):
        return {"en": TEXTS[index]}


def test_the_forms_of_a_call(translator):
    alone = [translator(text, **SEARCH) for text in TEXTS]
    assert [list(map(set, answer)) for answer in alone] == [[{"translation_text"}]] * 5
    assert translator(tuple(TEXTS), **SEARCH) == [answer[0] for answer in alone]
    assert translator(TEXTS[:1], **SEARCH) == alone[0]
    assert translator([]) == []
    for stream in ((text for text in TEXTS), KeyDataset(Rows(), "en")):
        answers = translator(stream, batch_size=2, **SEARCH)
        assert not isinstance(answers, list)
        assert list(answers) == alone
    for task, key in (("summarization", "summary"), ("text2text-generation", "generated")):
        pipe = pipeline(task, model=translator.model, tokenizer=translator.tokenizer, device="cpu")
        answers = pipe(TEXTS, batch_size=2, **SEARCH)
        assert answers == [{f"{key}_text": answer[0]["translation_text"]} for answer in alone]


def test_blank_text_stays_what_it_is(translator):
    assert translator("") == [{"translation_text": ""}]
    assert translator(" \n ", num_return_sequences=2, **SEARCH) == [{"translation_text": " \n ", "score": 0.0}] * 2
    assert translator(["", "", ""], batch_size=3) == [{"translation_text": ""}] * 3


def test_special_tokens_that_a_user_types_are_text(translator):
    (row,) = translator.preprocess("a </s><pad> b <s>")
    ids = row["input_ids"][0].tolist()
    assert [id for id in ids if id in (0, 2, 3)] == [3]
    assert ids[-1] == 3


def test_a_text_that_is_too_long_is_translated_by_sentence(translator):
    settings = SEARCH | {"max_new_tokens": 12}
    sentences = ["A man is on a ladder.", "Does it run?", "Two dogs run!", "A cat sleeps."]
    text = f" {sentences[0]}  {sentences[1]}\n\n{sentences[2]} {sentences[3]}\n"
    parts = [by_hand(translator, sentence, **settings)[0].strip() for sentence in sentences]
    expected = f" {parts[0]}  {parts[1]}\n\n{parts[2]} {parts[3]}\n"
    assert all(parts)
    assert translator(text, split_sentences=True, **settings)[0]["translation_text"] == expected
    whole = translator(text, **settings)[0]["translation_text"]
    assert whole == by_hand(translator, text, **settings)[0] != expected
    translator.tokenizer.model_max_length = 30
    assert translator(text, **settings)[0]["translation_text"] == expected
    assert translator([TEXTS[4], text, ""], batch_size=3, **settings) == [
        {"translation_text": by_hand(translator, TEXTS[4], **settings)[0]},
        {"translation_text": expected},
        {"translation_text": ""},
    ]


def test_the_score_of_a_text_in_pieces_has_the_form_of_one(translator):
    settings = {"length_penalty": 0.6, "num_beams": 2, "return_scores": True}
    texts = ("Two dogs run.", "A cat sleeps.")
    pieces = [translator(text, return_tensors=True, **settings)[0] for text in texts]
    lengths = [len(written(text, piece["translation_token_ids"], translator)) for text, piece in zip(texts, pieces)]
    log_probs = [piece["score"] * length**0.6 for piece, length in zip(pieces, lengths, strict=True)]
    whole = translator("Two dogs run. A cat sleeps.", split_sentences=True, **settings)[0]
    assert whole["score"] == pytest.approx(sum(log_probs) / sum(lengths) ** 0.6)


def test_a_sentence_that_is_too_long_is_cut_and_says_so(translator, caplog):
    translator.tokenizer.model_max_length = 30
    text = "Two dogs run. " + "a man in a blue shirt is standing, and a cat sleeps on the ladder, " * 3
    with caplog.at_level(logging.WARNING, logger="modeling_vanilla.pipeline_text2text"):
        rows = list(translator.preprocess(text))
    assert "30 tokens" in caplog.text
    texts = [translator.tokenizer.decode(row["input_ids"][0], skip_special_tokens=True) for row in rows]
    assert "".join(part + row["space"] for part, row in zip(texts, rows, strict=True)) == text
    assert max(row["input_ids"].shape[1] for row in rows) <= 30
    assert texts[0] == "Two dogs run."
    assert all(part.endswith(("standing,", "ladder,")) for part in texts[1:])
    caplog.clear()
    list(translator.preprocess("Two dogs run. " * 9))
    assert "too long" not in caplog.text


def test_what_is_too_long_can_be_cut_off(translator):
    text = "Two dogs run. " * 30
    ids = translator.tokenizer(text, truncation=True, max_length=POSITIONS, return_tensors="pt")
    expected = translator.model.generate(**ids, max_new_tokens=9)
    for task in ("translation", "summarization", "text2text-generation"):
        pipe = pipeline(task, model=translator.model, tokenizer=translator.tokenizer, device="cpu")
        (answer,) = pipe(text, truncation=True, max_new_tokens=9)
        assert list(answer.values()) == translator.tokenizer.batch_decode(expected, skip_special_tokens=True)


def test_refusals(translator, build):
    long = "Two dogs run. " * 30
    number = len(translator.tokenizer(long)["input_ids"])
    with pytest.raises(ValueError, match=rf"{number} tokens, more than the {POSITIONS}"):
        translator(long, split_sentences=False)
    summarizer = pipeline("summarization", model=translator.model, tokenizer=translator.tokenizer, device="cpu")
    with pytest.raises(ValueError, match=rf"{number} tokens.*truncation=True"):
        summarizer(["short", long])
    with pytest.raises(ValueError, match="split_sentences=True"):
        summarizer(long, split_sentences=True)
    with pytest.raises(ValueError, match=r"num_return_sequences=2 .* one sentence at a time"):
        translator(long, num_beams=2, num_return_sequences=2)
    for wrong in (5, None, ["a", ["b"]], {"text": "a"}):
        with pytest.raises(TypeError, match="a text must be a string, not"):
            translator(wrong)
    with pytest.raises(ValueError, match="nun_beams"):
        translator("a", nun_beams=4)
    reader = build("encoder", VanillaForMaskedLM)
    with pytest.raises(ValueError, match="needs an encoder-decoder that generates, not VanillaForMaskedLM"):
        TranslationPipeline(model=reader, tokenizer=translator.tokenizer)
    with pytest.raises(ValueError, match="needs a tokenizer"):
        TranslationPipeline(model=translator.model)


def test_models_of_others_translate_too(words):
    """Also right from the constructor, in training mode: dropout is off."""
    config = BartConfig(
        vocab_size=len(words),
        d_model=24,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=29,
        decoder_ffn_dim=29,
        max_position_embeddings=POSITIONS,
        init_std=0.5,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=EOS,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )
    pipe = pipeline("translation", model=BartForConditionalGeneration(config), tokenizer=words, device="cpu")
    expected = [by_hand(pipe, text, **SEARCH)[0] if text else "" for text in TEXTS]
    assert [answer["translation_text"] for answer in pipe(TEXTS, batch_size=3, **SEARCH)] == expected
    assert len(set(expected)) > 3


def test_a_saved_pipeline_translates_as_before(translator, tmp_path):
    expected = translator(TEXTS, **SEARCH)
    translator.save_pretrained(tmp_path)
    again = pipeline("translation", model=str(tmp_path), device="cpu")
    assert type(again) is TranslationPipeline
    assert type(again.model) is VanillaForConditionalGeneration
    assert again(TEXTS, **SEARCH) == expected


def test_unknown_tokens_are_reported_once_a_call(translator, caplog):
    with caplog.at_level(logging.WARNING, logger="modeling_vanilla.pipeline_text2text"):
        for texts, reports in ((["\u2603 \u2603", "\u2603"], 1), ("\u2603", 1), (TEXTS[0], 0)):
            caplog.clear()
            translator(texts, max_new_tokens=2)
            assert caplog.text.count("of the tokens read are unknown to the model") == reports


def test_registering_twice_is_harmless(caplog):
    before = {task: PIPELINE_REGISTRY.check_task(task)[1]["impl"] for task in modeling_vanilla.PIPELINES}
    importlib.reload(modeling_vanilla)
    assert before == {task: PIPELINE_REGISTRY.check_task(task)[1]["impl"] for task in modeling_vanilla.PIPELINES}
    assert not caplog.records
