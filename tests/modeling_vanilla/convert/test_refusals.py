# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What no bridge can carry is refused, by the name of the option and its value, in both directions."""

import pytest
import transformers
from torch import nn
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    MarianConfig,
    MarianModel,
)

from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForSequenceClassification,
    VanillaModel,
    from_transformers,
    to_transformers,
)

STACKS = dict(vocab_size=31, d_model=24, encoder_layers=1, decoder_layers=1, max_position_embeddings=9)
STACKS |= dict(encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=29, decoder_ffn_dim=29)
ENCODER = dict(vocab_size=31, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=29)
FOREIGN = {
    "bert": lambda: BertModel(BertConfig(**ENCODER)),
    "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=31, n_embd=24, n_layer=1, n_head=4)),
    "bart": lambda: BartModel(BartConfig(**STACKS)),
    "marian": lambda: MarianModel(MarianConfig(**STACKS, pad_token_id=30, decoder_start_token_id=30)),
}


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("bert", "position_embedding_type", "relative_key"),
        ("bert", "is_decoder", True),
        ("bert", "add_cross_attention", True),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "reorder_and_upcast_attn", True),
        ("gpt2", "add_cross_attention", True),
        ("bart", "normalize_before", True),
        ("bart", "normalize_embedding", False),
        ("bart", "encoder_ffn_dim", 30),
        ("marian", "decoder_ffn_dim", 30),
        ("marian", "decoder_attention_heads", 2),
        ("marian", "decoder_vocab_size", 30),
        ("marian", "share_encoder_decoder_embeddings", False),
        ("marian", "add_bias_logits", True),
        ("marian", "normalize_embedding", True),
        ("marian", "static_position_embeddings", False),
    ],
)
def test_a_foreign_option(kind, option, value):
    theirs = FOREIGN[kind]()
    from_transformers(theirs)
    setattr(theirs.config, option, value)
    with pytest.raises(ValueError, match=f"{option}={value!r}"):
        from_transformers(theirs)


def test_a_foreign_architecture_head_or_weight():
    sizes = dict(vocab_size=31, hidden_size=24, intermediate_size=29, num_hidden_layers=1, num_attention_heads=4)
    llama = transformers.LlamaModel(LlamaConfig(**sizes, num_key_value_heads=2))
    with pytest.raises(ValueError, match=r"model_type='llama'.*num_key_value_heads=2.*rope.*one of bert"):
        from_transformers(llama)
    with pytest.raises(ValueError, match="BertForTokenClassification"):
        from_transformers(BertForTokenClassification(BertConfig(**ENCODER)))
    theirs = FOREIGN["bert"]()
    theirs.encoder.layer[1].extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"the weight encoder\.layer\.1\.extra\.bias, and 1 more"):
        from_transformers(theirs)


PEERS = {
    "encoder": dict(positions="learned", scale_embeddings=False, embedding_norm=True, type_vocab_size=2),
    "decoder": dict(norm_order="pre", positions="learned", scale_embeddings=False),
    "encoder-decoder": {},
}


@pytest.mark.parametrize(
    ("variant", "option", "value"),
    [
        ("encoder", "norm_order", "pre"),
        ("encoder", "positions", "sinusoidal"),
        ("encoder", "scale_embeddings", True),
        ("encoder", "embedding_norm", False),
        ("encoder", "type_vocab_size", 0),
        ("encoder", "attention_window", 3),
        ("decoder", "norm_order", "post"),
        ("decoder", "type_vocab_size", 2),
        ("decoder", "head_dim", 5),
        ("encoder", "v_head_dim", 5),
        ("encoder-decoder", "norm_order", "pre"),
        ("encoder-decoder", "embedding_norm", True),
        ("encoder-decoder", "layer_norm_eps", 1e-6),
        ("encoder-decoder", "attention_window", 5),
        ("encoder-decoder", "decoder_start_token_id", None),
    ],
)
def test_an_option_that_the_target_lacks(variant, option, value):
    to_transformers(VanillaModel(VanillaConfig.tiny(variant=variant, **PEERS[variant])))
    model = VanillaModel(VanillaConfig.tiny(variant=variant, **(PEERS[variant] | {option: value})))
    with pytest.raises(ValueError, match=f"{option}={value!r}, needs"):
        to_transformers(model)


def test_every_forbidding_option_is_named():
    with pytest.raises(ValueError, match="norm_order='post'.*positions='sinusoidal'.*scale_embeddings=True"):
        to_transformers(VanillaForCausalLM(VanillaConfig.tiny(variant="decoder")))


def test_a_head_that_the_target_lacks():
    with pytest.raises(ValueError, match="gpt2 has no class for VanillaForSequenceClassification"):
        to_transformers(VanillaForSequenceClassification(VanillaConfig.tiny(variant="decoder")))


def test_a_model_that_is_on_the_other_side_already():
    with pytest.raises(ValueError, match="model_type='vanilla' has no bridge"):
        from_transformers(VanillaModel(VanillaConfig.tiny()))
    with pytest.raises(ValueError, match="model_type='bert' must be 'vanilla'"):
        to_transformers(FOREIGN["bert"]())
