# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Folders of small random models with real tokenizers, and a function that runs a command over lines."""

import io
import sys
from pathlib import Path

import pytest
from transformers import pipeline
from transformers.utils import logging

import tokenizer as tokenizers
from modeling_vanilla.__main__ import main

TEXTS = [
    "Two dogs run in Berlin.",
    "A man in a blue shirt is standing on a ladder, and a cat sleeps.",
    "",
    "안녕하세요.",
    "A cat.",
    "  ",
    "Two dogs run.",
]
TEMPLATES = {"encoder": "encoder", "encoder-decoder": "seq2seq", "decoder": "causal"}
POSITIONS = 60


@pytest.fixture
def folder_of(build, tmp_path):
    """Return a function that saves a model of a variant and its tokenizer."""

    def save(variant: str, model_class=None, **settings) -> Path:
        words = tokenizers.build("bpe", TEXTS, 150, TEMPLATES[variant], min_frequency=1, show_progress=False)
        sizes = {"vocab_size": len(words), "max_position_embeddings": POSITIONS, "jitter": 0.3}
        model = build(variant, model_class, **sizes, **settings)
        if model.can_generate():
            model.generation_config.max_new_tokens = 7
            model.generation_config.no_repeat_ngram_size = 1  # random models repeat one token for ever
        folder = tmp_path / "model"
        for saved in (model, words):
            saved.save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def pipe_of():
    """Return a function that loads a folder into a pipeline."""
    return lambda task, folder: pipeline(task, model=str(folder), device="cpu")


@pytest.fixture
def run(capsys, monkeypatch):
    """Return a function that runs a command: its exit code, what it wrote, and what it told."""
    monkeypatch.setattr(logging, "_tqdm_active", False)  # as in `__main__`: no bar while weights are loaded

    def command(*words, given: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        capsys.readouterr()
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command
