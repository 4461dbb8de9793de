# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The config that transformers.js reads: a kind that it knows, and the sizes of a cache that the graphs take."""

import pytest

from modeling_vanilla import VanillaForCausalLM, VanillaForConditionalGeneration, VanillaForSequenceClassification
from modeling_vanilla.convert.js import config_for_js


@pytest.mark.parametrize(
    ("variant", "model_class", "kind", "width", "heads", "layers"),
    [
        ("decoder", VanillaForCausalLM, "gpt2", "n_embd", "n_head", "n_layer"),
        (
            "encoder-decoder",
            VanillaForConditionalGeneration,
            "marian",
            "d_model",
            "decoder_attention_heads",
            "decoder_layers",
        ),
    ],
)
def test_a_cache_has_the_width_of_its_keys(build, variant, model_class, kind, width, heads, layers):
    """head_dim is 5, not d_model / heads = 6; transformers.js divides."""
    model = build(variant, model_class, num_layers=3, num_decoder_layers=2 if kind == "marian" else None)
    config = config_for_js(model)
    assert (config["model_type"], config[width] / config[heads]) == (kind, 5)
    assert config[layers] == len(model.model.decoder.layers)
    assert (config["eos_token_id"], config["pad_token_id"]) == (3, 0)
    assert "auto_map" not in config


def test_labels_are_kept(build):
    names = {0: "good", 1: "bad", 2: "ugly"}
    config = config_for_js(build("encoder", VanillaForSequenceClassification, id2label=names))
    assert (config["architectures"], config["id2label"]) == (["BertForSequenceClassification"], names)
