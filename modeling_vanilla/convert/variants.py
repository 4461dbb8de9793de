# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""From one variant to another: an encoder and a decoder put together, and either cut out of both."""

from typing import Any

import torch

from ..base import VanillaPreTrainedModel
from ..configuration_vanilla import VanillaConfig
from ..modeling_vanilla import VanillaForCausalLM, VanillaForConditionalGeneration, VanillaModel
from .architectures import build

# What an encoder and a decoder must have in common to live under one config.
AGREE = (
    "vocab_size d_model d_ff num_heads head_dim v_head_dim layer_norm_eps max_position_embeddings norm_order positions "
    "activation scale_embeddings embedding_norm type_vocab_size attention_window pad_token_id"
).split()


def assemble(encoder: VanillaPreTrainedModel, decoder: VanillaPreTrainedModel) -> VanillaForConditionalGeneration:
    """Make an encoder-decoder of a pretrained encoder and a pretrained decoder (Rothe et al. 2020).

    Cross-attention is the decoder's where it has one, else new, drawn as its config says. The embeddings stay three matrices
    (`tie_word_embeddings=False`) unless both sides hold the same one. Training options are the decoder's.

    Args:
        encoder: Any model of variant "encoder"; its head is left behind.
        decoder: Any model of variant "decoder"; a language model's head is kept.

    Raises:
        ValueError: A wrong variant, or options that disagree, each named with both values.
    """
    for model, variant in ((encoder, "encoder"), (decoder, "decoder")):
        if model.config.variant != variant:
            raise ValueError(f"variant={model.config.variant!r} of the {variant} must be {variant!r}")
    pairs = {name: (getattr(encoder.config, name), getattr(decoder.config, name)) for name in AGREE}
    if wrong := [f"{name}={a!r} and {b!r}" for name, (a, b) in pairs.items() if a != b]:
        raise ValueError(f"encoder and decoder disagree: {'; '.join(wrong)}")
    state = {f"model.{k}": v for model in (encoder, decoder) for k, v in model.base_model.state_dict().items()}
    embedding = decoder.get_input_embeddings().weight
    if isinstance(decoder, VanillaForCausalLM):
        state["lm_head.weight"] = decoder.lm_head.weight
    elif decoder.config.tie_word_embeddings:
        state["lm_head.weight"] = embedding
    same = torch.equal(encoder.get_input_embeddings().weight, embedding)
    start = decoder.config.decoder_start_token_id
    config = _variant(
        decoder.config,
        "encoder-decoder",
        num_layers=encoder.config.num_layers,
        num_decoder_layers=decoder.config.num_layers,
        add_cross_attention=False,  # a translator has it anyway
        tie_word_embeddings=same and decoder.config.tie_word_embeddings,
        decoder_start_token_id=decoder.config.bos_token_id if start is None else start,
    )
    return build(VanillaForConditionalGeneration, config, state, decoder, new=("cross_attn", "lm_head"))


def cut(model: VanillaPreTrainedModel, part: str) -> VanillaModel:
    """Cut the encoder or the decoder, without cross-attention and head, out of an encoder-decoder.

    Every name stays: what is saved loads into `VanillaForMaskedLM`, `VanillaForCausalLM` or a classifier.

    Raises:
        ValueError: `part` is not "encoder" or "decoder", or the model is not an encoder-decoder.
    """
    if part not in ("encoder", "decoder"):
        raise ValueError(f"part={part!r} must be 'encoder' or 'decoder'")
    if model.config.variant != "encoder-decoder":
        raise ValueError(f"variant={model.config.variant!r} must be 'encoder-decoder' to cut a part out")
    whole = model.base_model.state_dict()
    state = {k: v for k, v in whole.items() if k.startswith(f"{part}.") and ".cross_attn" not in k}
    depth = model.config.num_layers if part == "encoder" else model.config.num_decoder_layers
    config = _variant(model.config, part, num_layers=depth, num_decoder_layers=None, lm_head_bias=False)
    return build(VanillaModel, config, state, model)


def _variant(config: VanillaConfig, variant: str, **changes: Any) -> VanillaConfig:
    """Return a config with the same options for another variant."""
    values = {name: getattr(config, name) for name in VanillaConfig.__annotations__ if name != "is_decoder"}
    return VanillaConfig(**(values | {"variant": variant} | changes))
