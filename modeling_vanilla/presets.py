# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Published models as values of VanillaConfig, where they differ from its defaults (the base model of Table 3)."""

from typing import Any

TRANSFORMER_BIG: dict[str, Any] = {"d_model": 1024, "d_ff": 4096, "num_heads": 16, "dropout": 0.3}

# What BERT base and GPT-2 small have in common.
_TWELVE_LAYERS = {
    "d_model": 768,
    "d_ff": 3072,
    "num_heads": 12,
    "num_layers": 12,
    "attention_dropout": 0.1,
    "initializer_range": 0.02,
    "positions": "learned",
    "scale_embeddings": False,
    "label_smoothing": 0.0,
    "decoder_start_token_id": None,
}
BERT_BASE: dict[str, Any] = _TWELVE_LAYERS | {
    "variant": "encoder",
    "vocab_size": 30522,
    "layer_norm_eps": 1e-12,
    "activation": "gelu",
    "embedding_norm": True,
    "type_vocab_size": 2,
    "bos_token_id": None,
    "eos_token_id": None,
}
GPT2: dict[str, Any] = _TWELVE_LAYERS | {
    "variant": "decoder",
    "vocab_size": 50257,
    "max_position_embeddings": 1024,
    "norm_order": "pre",
    "activation": "gelu_new",
    "pad_token_id": None,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}
MARIAN: dict[str, Any] = {
    "vocab_size": 58101,
    "activation": "swish",
    "label_smoothing": 0.0,
    "initializer_range": 0.02,
    "pad_token_id": 58100,
    "bos_token_id": None,
    "eos_token_id": 0,
    "decoder_start_token_id": 58100,
}
TINY: dict[str, Any] = {
    "vocab_size": 97,
    "d_model": 24,
    "d_ff": 40,
    "num_heads": 4,
    "num_layers": 2,
    "max_position_embeddings": 64,
}
