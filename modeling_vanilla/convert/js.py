# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The folder that transformers.js reads: graphs below onnx/, and a config in the words of a model that it knows.

It asks the config for the kind of the model, and for the sizes of a cache; what the layers compute is in the graphs. So any
Vanilla model goes under the name of the one that is called as it is: BERT, GPT-2 or Marian.
"""

import json
from pathlib import Path
from typing import Any

from ..base import VanillaPreTrainedModel
from .graphs import write_graphs

# The class under whose name each of ours goes.
CLASSES = {
    "VanillaForCausalLM": ("gpt2", "GPT2LMHeadModel"),
    "VanillaForConditionalGeneration": ("marian", "MarianMTModel"),
    "VanillaForMaskedLM": ("bert", "BertForMaskedLM"),
    "VanillaForSequenceClassification": ("bert", "BertForSequenceClassification"),
    "VanillaModel": ("bert", "BertModel"),
}
SHARED = (
    "vocab_size max_position_embeddings pad_token_id bos_token_id eos_token_id decoder_start_token_id "
    "is_encoder_decoder id2label label2id problem_type"
).split()


def write_for_js(model: VanillaPreTrainedModel, folder: Path) -> None:
    """Write graphs, config and generation config; the tokenizer is copied as it is.

    Raises:
        ValueError: See `graphs.check`.
    """
    write_graphs(model, folder / "onnx")
    (folder / "config.json").write_text(json.dumps(config_for_js(model), indent=2) + "\n", encoding="utf-8")
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


def config_for_js(model: VanillaPreTrainedModel) -> dict[str, Any]:
    """Return what transformers.js reads of a config."""
    config = model.config
    kind, name = CLASSES[type(model).__name__]
    values = {field: value for field, value in config.to_dict().items() if field in SHARED and value is not None}
    width = config.num_heads * config.head_dim  # divided by the heads it is the width of a cached key
    sizes: dict[str, dict[str, int]] = {
        "gpt2": {"n_embd": width, "n_head": config.num_heads, "n_layer": config.num_layers},
        "marian": {
            "d_model": width,
            "encoder_layers": config.num_layers,
            "decoder_layers": config.num_decoder_layers or 0,
            "encoder_attention_heads": config.num_heads,
            "decoder_attention_heads": config.num_heads,
        },
        "bert": {
            "hidden_size": config.d_model,
            "num_attention_heads": config.num_heads,
            "num_hidden_layers": config.num_layers,
        },
    }
    return {"model_type": kind, "architectures": [name]} | values | sizes[kind]
