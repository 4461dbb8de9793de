# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What a caller of transformers 4 writes is taken as 4 took it, or refused with the form to use instead.

The right values were read off transformers 4.57.6 with the same weights, or follow from `generate` by hand.
"""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    GenerationConfig,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    pipeline,
)
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.tokenization_utils_base import TruncationStrategy

from modeling_vanilla import TranslationPipeline
from modeling_vanilla.pipeline_calls import PipelineNames, language_pair
from modeling_vanilla.pipeline_text2text import Hypothesis

WORDS = "<pad> </s> <unk> summarize: translate: and: the cat sat on a mat dog ran . n't The".split()
TEXT = "the cat sat on a mat"
LONG = "The dog ran . " * 20
LIMIT = 30
SEQ2SEQ = {"translation": "translation", "summarization": "summary", "text2text-generation": "generated"}
VARIED = {"no_repeat_ngram_size": 1, "max_new_tokens": 6}
OF_TASKS = {
    "summarization": {"prefix": "summarize: ", "num_beams": 2, "max_length": 12, "unknown_of_old": 3},
    "translation_en_to_de": {"prefix": "translate: ", "max_length": 9},
    "translation_en_to_fr": {"prefix": "and: "},
}


def words(**options):
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=LIMIT, **special, **options)


def t5(**fields):
    """Return a random T5 whose answers depend on what it reads."""
    sizes = {"vocab_size": len(WORDS), "d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    model = T5ForConditionalGeneration(
        T5Config(**sizes, decoder_start_token_id=0, tie_word_embeddings=False, **fields)
    )
    generator = torch.Generator().manual_seed(10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.8)
    return model.eval()


def make(task="translation", model=None, tokenizer=None, **options):
    return pipeline(task, model=model or t5(), tokenizer=tokenizer or words(), device="cpu", **options)


def spy(pipe):
    """Return a list that grows by what each call of `generate` reads: text, and settings."""
    seen, generate = [], pipe.model.generate

    def listen(**inputs):
        seen.append((pipe.tokenizer.batch_decode(inputs["input_ids"]), inputs["generation_config"]))
        return generate(**inputs)

    pipe.model.generate = listen
    return seen


@pytest.mark.parametrize(
    ("task", "prefix", "beams", "new_tokens"),
    [
        ("translation", "translate: ", None, 8),  # the first that the config knows
        ("translation_en_to_de", "translate: ", None, 8),
        ("translation_en_to_fr", "and: ", None, None),
        ("translation_en_to_ko", "", None, None),
        ("summarization", "summarize: ", 2, 11),
        ("text2text-generation", "", None, None),
    ],
)
def test_what_config_json_says_of_the_task(task, prefix, beams, new_tokens, recwarn):
    model = t5(task_specific_params=OF_TASKS)
    for _ in range(2):  # making a pipeline takes nothing out of the config
        pipe = make(task, model)
        assert any("translation_en_to_de: name the task so" in str(w.message) for w in recwarn) == (
            task == "translation"
        )
        seen = spy(pipe)
        answers = pipe([TEXT, "a dog"], batch_size=2)
        ((texts, settings),) = seen
        assert texts == [f"{prefix}{TEXT} </s>", f"{prefix}a dog </s>{' <pad>' * 4}"]
        assert settings.num_beams == beams
        assert settings.max_new_tokens == (new_tokens or len(pipe.tokenizer(prefix + TEXT)["input_ids"]) + 50)
        del model.generate
        by_hand = model.generate(
            **pipe.tokenizer([prefix + "a dog"], return_tensors="pt", return_token_type_ids=False),
            num_beams=beams or 1,
            max_new_tokens=new_tokens or len(pipe.tokenizer(prefix + "a dog")["input_ids"]) + 50,
        )
        (found,) = answers[1].values()
        assert found == pipe.tokenizer.decode(by_hand[0], skip_special_tokens=True)


def test_the_caller_stands_above_the_task():
    pipe = make("summarization", t5(task_specific_params=OF_TASKS), num_beams=3)
    seen = spy(pipe)
    for call, beams, new_tokens in (
        ({}, 3, 11),
        ({"num_beams": 4, "max_new_tokens": 5}, 4, 5),
        ({"max_length": 5}, 3, 4),
        ({"num_beams": 1, "generation_config": GenerationConfig(max_length=7)}, 1, 6),
    ):
        pipe(TEXT, **call)
        assert (seen[-1][1].num_beams, seen[-1][1].max_new_tokens) == (beams, new_tokens)
    assert [texts for texts, _ in seen] == [[f"summarize: {TEXT} </s>"]] * 4
    plain = make("summarization", pipe.model)
    for call, beams in (({}, 2), ({"generation_config": GenerationConfig(max_length=7)}, None)):
        plain(TEXT, **call)
        assert seen[-1][1].num_beams == beams


def test_hypotheses_that_the_task_asks_for():
    pipe = make(
        "summarization", t5(task_specific_params={"summarization": {"num_return_sequences": 2, "num_beams": 2}})
    )
    assert len(pipe(TEXT, max_new_tokens=3)) == 2
    pipe = make("translation", t5(task_specific_params={"translation": {"num_return_sequences": 2, "num_beams": 2}}))
    with pytest.raises(ValueError, match="num_return_sequences=2 for a text"):
        pipe(LONG)


def test_a_prefix_without_a_task_stands_before_every_piece():
    """As BART's folder for summaries has it; what is too long is measured with it."""
    pipe = make("translation", t5(prefix="and: " * 10))
    seen = spy(pipe)
    pipe(LONG[:70], max_new_tokens=2)  # five sentences of 4 tokens, 10 of the prefix, and the end
    assert len(seen) == 5
    assert {texts[0] for texts, _ in seen} == {"and: " * 10 + "The dog ran . </s>"}
    with pytest.raises(ValueError, match="the text has 31 tokens"):
        pipe(LONG[:70], split_sentences=False)


def test_a_translation_by_the_names_of_its_languages(build):
    for name, pair in (
        ("translation_en_to_ko", ("en", "ko")),
        ("translation", None),
        ("translation_en_ko", None),
        ("translation_zh_CN_to_en", None),
        ("summarization_en_to_ko", None),
        (None, None),
    ):
        assert language_pair(name) == pair
    names = PipelineNames(translation=1, summarization=2)
    assert "translation_en_to_ko" in names
    assert (names["translation_en_to_ko"], names["summarization"], dict(names)) == (1, 2, {**names})
    assert "translation_en_to_ko" not in PipelineNames(summarization=2)
    with pytest.raises(KeyError):
        names["translation_en_ko"]
    pipe = make("translation_en_to_ko")
    assert type(pipe) is TranslationPipeline
    assert pipe.task == "translation_en_to_ko"
    assert pipe(TEXT, **VARIED) == make()(TEXT, **VARIED)
    with pytest.raises(KeyError, match="translation_en_ko"):
        PIPELINE_REGISTRY.check_task("translation_en_ko")


@pytest.mark.parametrize(("task", "key"), SEQ2SEQ.items())
def test_arguments_of_a_call(task, key):
    pipe = make(task)
    ((text,),) = (answer.values() for answer in pipe(TEXT, **VARIED))
    ids = pipe.model.generate(**pipe.tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False), **VARIED)[
        0
    ].tolist()
    assert text == pipe.tokenizer.decode(ids, skip_special_tokens=True)
    for call, expected in (
        ({"return_text": True}, {f"{key}_text": text}),
        ({"return_tensors": False}, {f"{key}_text": text}),
        ({"return_tensors": True}, {f"{key}_token_ids": ids}),
        ({"return_tensors": True, "return_text": False}, {f"{key}_token_ids": ids}),
        ({"return_tensors": True, "return_text": True}, {f"{key}_token_ids": ids, f"{key}_text": text}),
    ):
        for answer in (pipe(TEXT, **VARIED, **call), make(task, **call)(TEXT, **VARIED)):
            (found,) = answer
            assert {
                name: value if isinstance(value, str) else value.tolist() for name, value in found.items()
            } == expected
    with pytest.raises(ValueError, match="return_text=False leaves nothing .* return_tensors=True"):
        pipe(TEXT, return_text=False)


def test_a_stop_sequence_ends_a_text():
    pipe = make()
    (answer,) = pipe(TEXT, **VARIED)
    written = answer["translation_text"].split()
    assert len(written) > 3
    (stopped,) = pipe(TEXT, stop_sequence=written[2], **VARIED)
    assert stopped["translation_text"].split() == written[:3]
    with pytest.raises(ValueError, match=r"stop_sequence='cat sat' .* has 2: give stop_strings=\['cat sat'\] and tok"):
        pipe(TEXT, stop_sequence="cat sat")


def test_truncation_in_each_of_its_words():
    pipe = make("text2text-generation")
    seen = spy(pipe)
    for asks in (True, "longest_first", "only_first", TruncationStrategy.ONLY_FIRST):
        pipe(LONG, truncation=asks, max_new_tokens=2)
        assert len(seen.pop()[0][0].split()) == LIMIT
    for asks in (False, None, "do_not_truncate", TruncationStrategy.DO_NOT_TRUNCATE):
        with pytest.raises(ValueError, match="the text has 81 tokens"):
            pipe(LONG, truncation=asks)
    for asks in ("only_second", "first", 2):
        with pytest.raises(ValueError, match=rf"truncation={asks!r} must be one of .* 'only_first'"):
            pipe(TEXT, truncation=asks)


def test_spaces_are_cleaned_up_where_the_call_asks():
    """Not where the tokenizer does by default: 4 told it not to."""
    pipe = make(tokenizer=words(clean_up_tokenization_spaces=True))
    row = [{"outputs": [Hypothesis([12, 15, 14])], "space": "", "scored": False}]
    assert pipe.tokenizer.decode([12, 15, 14]) == "dogn't."
    assert pipe.postprocess(row) == [{"translation_text": "dog n't ."}]
    assert pipe.postprocess(row, clean_up_tokenization_spaces=True) == [{"translation_text": "dogn't."}]


def test_token_types_do_not_reach_generate():
    pipe = make(tokenizer=words(model_input_names=["input_ids", "token_type_ids", "attention_mask"]))
    assert "token_type_ids" in pipe.tokenizer(TEXT)
    assert pipe([TEXT, "a dog"], batch_size=2, **VARIED) == make()([TEXT, "a dog"], **VARIED)


def test_what_has_another_form_now():
    pipe = make(framework="pt", modelcard=None)
    assert pipe(TEXT, src_lang="en", tgt_lang="ko", **VARIED) == make()(TEXT, **VARIED), (
        "one pair, whatever it is called"
    )
    with pytest.raises(TypeError, match="3 texts must be given as one list"):
        pipe(TEXT, "a dog", "a cat")
    with pytest.raises(ValueError, match="return_type must be left out: return_tensors=True"):
        pipe(TEXT, return_type=0)
    with pytest.raises(ValueError, match="not used by the model.*src_lang"):
        make("summarization")(TEXT, src_lang="en")
    for options, message in (
        ({"framework": "tf"}, "framework='tf' must be 'pt', or be left out"),
        ({"modelcard": "card"}, "modelcard='card' must be left out"),
        ({"assistant_model": "a/b"}, "assistant_model='a/b' must be a model"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)


@pytest.fixture(scope="module")
def many():
    """Return a random mBART with its own tokenizer, whose texts end in </s> and the code of their language."""
    from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES as CODES

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "▁cat", "▁sat", *CODES, "<mask>"]
    tokenizer = MBartTokenizer(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)])
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes |= {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64}
    torch.manual_seed(0)
    config = MBartConfig(vocab_size=len(tokenizer), init_std=0.7, forced_eos_token_id=None, **sizes)
    return MBartForConditionalGeneration(config).eval(), tokenizer


def test_the_languages_of_a_tokenizer_of_many(many):
    model, tokenizer = many
    german, french = tokenizer.convert_tokens_to_ids(["de_DE", "fr_XX"])
    pipe = make(model=model, tokenizer=tokenizer)
    seen = spy(pipe)
    call = {"src_lang": "de_DE", "tgt_lang": "fr_XX", "max_new_tokens": 4, "return_tensors": True}
    alone = [pipe(text, **call)[0]["translation_token_ids"].tolist() for text in ("the cat", "the")]
    assert [texts for texts, _ in seen] == [["the cat</s>de_DE"], ["the</s>de_DE"]]
    assert [ids[1] for ids in alone] == [french] * 2
    batch = pipe(["the cat", "", "the"], batch_size=3, **call)
    ids = [answer["translation_token_ids"].tolist() for answer in batch]
    assert [row[: len(one)] for row, one in zip(ids, (alone[0], [], alone[1]), strict=True)] == [
        alone[0],
        [],
        alone[1],
    ]
    set_up = make(model=model, tokenizer=tokenizer, src_lang="fr_XX", tgt_lang="de_DE", max_new_tokens=1)
    assert set_up("the", return_tensors=True)[0]["translation_token_ids"].tolist()[1] == german
    with pytest.raises(ValueError, match="requires a `src_lang` and a `tgt_lang`"):
        pipe("the cat")
    with pytest.raises(ValueError, match="tgt_lang='french' is no language of the tokenizer"):
        pipe("the cat", src_lang="de_DE", tgt_lang="french")
    del model.generate


def test_the_languages_of_the_task_are_those_of_the_tokenizer(many, monkeypatch):
    """Of translation_de_to_fr, with names such as M2M100 has; an unknown one is refused in one line."""
    model, tokenizer = many
    codes = {"de": "de_DE", "fr": "fr_XX"}

    def build(raw_inputs, src_lang, tgt_lang, **options):
        tokenizer.src_lang = codes[src_lang]
        return {
            **tokenizer(raw_inputs, **options),
            "forced_bos_token_id": tokenizer.convert_tokens_to_ids(codes[tgt_lang]),
        }

    monkeypatch.setattr(tokenizer, "_build_translation_inputs", build)
    pipe = make("translation_de_to_fr", model, tokenizer)
    named = make(model=model, tokenizer=tokenizer)
    assert pipe("the cat") == named("the cat", src_lang="de", tgt_lang="fr")
    assert pipe("the cat", src_lang="fr", tgt_lang="de") == named("the cat", src_lang="fr", tgt_lang="de")
    with pytest.raises(ValueError, match="'ko' is no language of the tokenizer"):
        pipe("the cat", src_lang="de", tgt_lang="ko")
