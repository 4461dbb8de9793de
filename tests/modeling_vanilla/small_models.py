# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Small models of every architecture that the tests of look/ compare."""

from collections.abc import Callable

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaModel,
)
from modeling_vanilla.look.view import Kind, Map, View

V = 61
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
HALVES = {"encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 29, "decoder_ffn_dim": 31}
BART = dict(vocab_size=V, d_model=24, encoder_attention_heads=4, decoder_attention_heads=4, **HALVES, **IDS)
BERT = dict(vocab_size=V, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=29)
LLAMA = dict(vocab_size=V, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=29)
T5 = dict(vocab_size=V, d_model=24, d_kv=5, d_ff=29, num_layers=2, num_heads=4)
OURS = dict(vocab_size=V, d_model=24, d_ff=29, num_layers=2, num_heads=4, max_position_embeddings=64)


def tied() -> EncoderDecoderModel:
    """Build an encoder-decoder out of two BERTs whose layers are the same modules, as far as both have them."""
    config = EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(**BERT), BertConfig(**BERT))
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    model = EncoderDecoderModel(config)
    halves = zip(model.encoder.encoder.layer, model.decoder.bert.encoder.layer, strict=True)
    for encoder_layer, decoder_layer in halves:
        decoder_layer.attention.self.query = encoder_layer.attention.self.query
        decoder_layer.attention.self.key = encoder_layer.attention.self.key
        decoder_layer.intermediate, decoder_layer.output = encoder_layer.intermediate, encoder_layer.output
    return model


def assembled() -> EncoderDecoderModel:
    """Build an encoder-decoder out of our encoder and of our decoder with cross-attention."""
    encoder = VanillaModel(VanillaConfig(variant="encoder", **OURS))
    decoder = VanillaForCausalLM(VanillaConfig(variant="decoder", add_cross_attention=True, **OURS))
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    return model


BUILD: dict[str, Callable[[], PreTrainedModel]] = {
    "BERT": lambda: BertModel(BertConfig(**BERT)),
    "BERT, causal": lambda: BertLMHeadModel(BertConfig(**BERT, is_decoder=True, **IDS)),
    "GPT-2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=64, n_embd=24, n_layer=2, n_head=4, **IDS)),
    "Llama, grouped keys": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, num_key_value_heads=2, **IDS)),
    "BART": lambda: BartForConditionalGeneration(BartConfig(**BART, decoder_start_token_id=2)),
    "Marian": lambda: MarianMTModel(MarianConfig(**BART, decoder_start_token_id=0)),
    "T5": lambda: T5ForConditionalGeneration(T5Config(**T5, decoder_start_token_id=0, **IDS)),
    "tied halves": tied,
    "assembled": assembled,
    "encoder-decoder": lambda: VanillaForConditionalGeneration(VanillaConfig(**OURS, num_decoder_layers=3)),
    "encoder": lambda: VanillaForMaskedLM(VanillaConfig(variant="encoder", **OURS)),
    "decoder": lambda: VanillaForCausalLM(VanillaConfig(variant="decoder", **OURS)),
    "learned": lambda: VanillaForCausalLM(VanillaConfig(variant="decoder", positions="learned", **OURS)),
    "window": lambda: VanillaForCausalLM(VanillaConfig(variant="decoder", attention_window=4, **OURS)),
}


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw ordinary token ids."""
    return torch.randint(5, V, shape, generator=torch.Generator().manual_seed(seed))


def view_of(rows: list[str], columns: list[str], weights: torch.Tensor, kind: Kind = "cross", **fields) -> View:
    """Return a view of one map with these weights (L, H, t, s)."""
    hidden = torch.zeros(weights.shape[2:], dtype=torch.bool)
    layers, heads = (list(range(size)) for size in weights.shape[:2])
    seen = Map(kind, rows, columns, rows, layers, heads, weights, hidden)
    return View(**{"model": "m", "architecture": "M", "text": "a", "target": "b", "maps": [seen]} | fields)
