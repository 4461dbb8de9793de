# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What the tests of other programs share: a little text, tokenizers built from it, tiny models, and no network."""

import pytest
import torch

from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForConditionalGeneration, VanillaForMaskedLM
from tokenizer import build

TEXTS = [
    "the dog runs",
    "a cat sleeps in the warm sun",
    "the old man walks his dog along the river",
    "Anna reads",
    "two children play with a red ball in the garden",
    "the river is cold and the bridge is old",
    "a bird sings",
    "he drinks a cup of tea and reads the paper",
    "the train leaves at seven and comes back at nine",
    "snow falls on the hills",
    "my sister plays the piano in the evening",
    "the cat watches a bird",
    "we walk home",
    "a farmer sells apples, pears and plums on the market",
    "the ball is red and the garden is green",
    "they sleep in the old house by the river",
]
PAIRS = [
    ("the dog runs", "der Hund rennt"),
    ("a cat sleeps in the warm sun", "eine Katze schläft in der warmen Sonne"),
    ("Anna reads", "Anna liest"),
    ("the river is cold", "der Fluss ist kalt"),
    ("a bird sings in the garden", "ein Vogel singt im Garten"),
    ("he drinks a cup of tea", "er trinkt eine Tasse Tee"),
    ("snow falls on the hills", "Schnee fällt auf die Hügel"),
    ("we walk home", "wir gehen nach Hause"),
]
LANGUAGE_MODELS = {
    "encoder-decoder": VanillaForConditionalGeneration,
    "encoder": VanillaForMaskedLM,
    "decoder": VanillaForCausalLM,
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Let no library ask the Hub: what cannot work without it shall fail here, and at once."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")


@pytest.fixture(autouse=True)
def fixed_seed():
    """Start every test from the same random numbers, alone or among others."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def texts():
    """Return sentences of uneven lengths."""
    return list(TEXTS)


@pytest.fixture(scope="session")
def pairs():
    """Return sentences and their translations."""
    return list(PAIRS)


@pytest.fixture(scope="session")
def causal_tokenizer():
    """Return a tokenizer that adds nothing and pads on the left."""
    return build("byte_bpe", TEXTS, 340, "causal", show_progress=False, model_max_length=64)


@pytest.fixture(scope="session")
def encoder_tokenizer():
    """Return a tokenizer that writes `<cls> A <sep>` and knows `<mask>`."""
    return build("wordpiece", TEXTS, 200, "encoder", show_progress=False, model_max_length=64)


@pytest.fixture(scope="session")
def seq2seq_tokenizer():
    """Return a tokenizer of both languages that writes `A </s>`."""
    words = [text for pair in PAIRS for text in pair]
    return build("bpe", [*TEXTS, *words], 260, "seq2seq", show_progress=False, model_max_length=64)


@pytest.fixture(scope="session")
def tiny():
    """Return a factory of tiny seeded models; noise gives biases and norms values that count."""

    def make(variant: str, vocab_size: int, model_class=None, jitter: float = 0.0, **overrides):
        torch.manual_seed(0)
        config = VanillaConfig.tiny(variant=variant, vocab_size=vocab_size, **({"label_smoothing": 0.0} | overrides))
        model = (model_class or LANGUAGE_MODELS[variant])(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * jitter)
        return model

    return make
