# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`convert --to gguf`, read by transformers; llama.cpp itself reads it in tests/clients/test_llama_cpp.py."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tokenizer as tokenizers
from modeling_vanilla.__main__ import main

GPT2 = {
    "norm_order": "pre",
    "positions": "learned",
    "scale_embeddings": False,
    "activation": "gelu_new",
    "head_dim": 6,
}
TEXTS = ["the dog's river is cold, 12 birds", "안녕하세요.", "two  dogs run\n in Berlin"]


@pytest.fixture
def save(build, tmp_path):
    """Return a function that saves a decoder and a tokenizer, and returns both with their folder."""

    def make(kind: str = "byte_bpe", template: str = "causal", variant: str = "decoder", rows: int = 0, **options):
        words = tokenizers.build(kind, TEXTS * 3, 300, template, show_progress=False)
        ids = {name: getattr(words, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        model = build(variant, **(GPT2 | {"vocab_size": len(words) + rows} | ids | options))
        for one in (model, words):
            one.save_pretrained(tmp_path / "ours")
        return model, words, tmp_path / "ours"

    return make


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_reads_the_same_model_and_the_same_tokenizer(save, tmp_path, tied):
    pytest.importorskip("gguf")
    sizes = {
        "d_ff": 4 * 24,
        "max_position_embeddings": 1024,
    }  # what transformers takes for granted of a GPT-2 in such a file
    model, words, folder = save(tie_word_embeddings=tied, rows=2, **sizes)
    assert main(["convert", str(folder), str(tmp_path / "new"), "--to", "gguf"]) == 0
    file = {"gguf_file": "model.gguf"}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "new", **file).eval()
    assert type(again).__name__ == "GPT2LMHeadModel"
    read = AutoTokenizer.from_pretrained(tmp_path / "new", **file)
    for text in TEXTS:
        ids = words(text)["input_ids"]
        assert read(text)["input_ids"] == ids
        with torch.no_grad():
            expected, logits = (one(torch.tensor([ids[:30]])).logits for one in (model, again))
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "encoder"}, "VanillaForMaskedLM"),
        ({"norm_order": "post"}, "norm_order"),
        ({"activation": "relu"}, "activation='relu' must be 'gelu_new'"),
        ({"kind": "char"}, "kind byte_bpe"),
        ({"template": "encoder"}, "kind byte_bpe"),
    ],
)
def test_what_llama_cpp_has_not_is_named_and_nothing_written(save, tmp_path, capsys, options, words):
    _, _, folder = save(**options)
    assert main(["convert", str(folder), str(tmp_path / "new"), "--to", "gguf"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in line
    assert not (tmp_path / "new").exists()
