# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A Vanilla translator in CTranslate2: converted by its own converter, from Marian's layout, same ids, same scores."""

import pytest
import torch
from transformers import MarianMTModel

from modeling_vanilla import (
    VanillaConfig,
    VanillaForConditionalGeneration,
    for_ctranslate2,
    from_transformers,
    to_transformers,
)
from modeling_vanilla.__main__ import main
from tokenizer import build as build_tokenizer

TEXTS = ["the quick brown fox jumps over the lazy dog", "a slow red cat sleeps in the field", "dogs and foxes run"]


@pytest.fixture(scope="module")
def words():
    return build_tokenizer("bpe", TEXTS * 3, 130, "seq2seq", show_progress=False)


@pytest.fixture(params=[{}, {"lm_head_bias": True}, {"tie_word_embeddings": False}], ids=["plain", "bias", "untied"])
def translator(request, words):
    torch.manual_seed(0)
    model = VanillaForConditionalGeneration(
        VanillaConfig.tiny(vocab_size=len(words), dropout=0.0, label_smoothing=0.0, **request.param)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@torch.no_grad()
def test_the_wider_marian_gives_the_same_logits(translator, words):
    marian = for_ctranslate2(translator)
    size = len(words)
    assert marian.config.vocab_size == marian.config.decoder_start_token_id + 1 == size + 1
    batch = dict(words(TEXTS, return_tensors="pt", padding=True))
    target = torch.randint(7, size, (3, 6), generator=torch.Generator().manual_seed(1))
    target[:, 0] = 2
    ours = translator(**batch, decoder_input_ids=target).logits
    target[:, 0] = size
    theirs = marian(**batch, decoder_input_ids=target).logits
    torch.testing.assert_close(theirs[..., :size], ours, atol=1e-5, rtol=1e-5)
    assert theirs.softmax(-1)[..., size].max() == 0


def test_a_marian_that_is_laid_out_so_stays_as_it_is():
    config = VanillaConfig.marian(vocab_size=31, d_model=24, d_ff=29, num_heads=4, num_layers=1, pad_token_id=30)
    config.decoder_start_token_id = 30
    model = VanillaForConditionalGeneration(config)
    with torch.no_grad():
        model.model.encoder.embed_tokens.weight[30] = 0
    marian = for_ctranslate2(from_transformers(to_transformers(model)))
    assert marian.config.vocab_size == 31


def test_learned_positions_are_refused():
    config = VanillaConfig.tiny(positions="learned", embedding_norm=True)
    with pytest.raises(ValueError, match="positions='learned'"):
        for_ctranslate2(VanillaForConditionalGeneration(config))


def memorise(model, batch, labels):
    """Train on three sentences until they are known: beam search may then stop early or late, it finds the same."""
    optimiser = torch.optim.Adam(model.train().parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimiser.step()
    return model.eval()


def test_same_translations_in_the_real_ctranslate2(translator, words, tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2")
    from ctranslate2.converters import TransformersConverter

    batch = words(TEXTS, return_tensors="pt", padding=True)
    pieces = [words.convert_ids_to_tokens(words(text)["input_ids"]) for text in TEXTS]
    labels = torch.randint(7, len(words), (3, 8), generator=torch.Generator().manual_seed(1))
    labels[:, -1] = words.eos_token_id

    def convert(name):
        translator.save_pretrained(tmp_path / name / "ours")
        words.save_pretrained(tmp_path / name / "ours")
        assert main(["convert", str(tmp_path / name / "ours"), str(tmp_path / name / "marian"), "--ctranslate2"]) == 0
        TransformersConverter(str(tmp_path / name / "marian")).convert(str(tmp_path / name / "ct2"))
        return ctranslate2.Translator(str(tmp_path / name / "ct2"), compute_type="float32", intra_threads=1)

    fast = convert("random")
    targets = [words.convert_ids_to_tokens(row[:-1].tolist()) for row in labels]
    scored = [row.log_probs for row in fast.score_batch(pieces, targets)]
    with torch.no_grad():
        expected = translator(**batch, labels=labels).logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    torch.testing.assert_close(torch.tensor(scored), expected, atol=1e-4, rtol=1e-4)

    memorise(translator, batch, labels)
    fast, stock = convert("trained"), MarianMTModel.from_pretrained(tmp_path / "trained" / "marian")
    for beams in (1, 4):
        ours = translator.generate(**batch, num_beams=beams, max_new_tokens=12)[:, 1:].tolist()
        assert ours == labels.tolist()
        assert stock.generate(**batch, num_beams=beams, max_new_tokens=12)[:, 1:].tolist() == ours
        rows = fast.translate_batch(pieces, beam_size=beams, max_decoding_length=12)
        assert [[*words.convert_tokens_to_ids(row.hypotheses[0]), 3] for row in rows] == ours
