# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""From a Vanilla translator to CTranslate2, through Marian's layout.

Dimension letters: D d_model, V vocabulary.
"""

import copy

import torch
from transformers import MarianMTModel

from ..modeling_vanilla import VanillaForConditionalGeneration
from .architectures import build, to_transformers


def for_ctranslate2(model: VanillaForConditionalGeneration) -> MarianMTModel:
    """Return the Marian model from which CTranslate2's own converter makes the same translator.

    For a Marian model that converter takes for granted that the last row of the vocabulary is padding, which it cuts
    off, and that the decoder starts from a vector of zeros. So the vocabulary gets one more row, of zeros, that cannot
    be generated; decoding starts from it; and the start token's vector moves into the decoder's position 0, where
    nothing but the start token ever stands. The logits of all other tokens stay as they are. (A translator that came
    from Marian has this layout already.)

    Raises:
        ValueError: See `to_transformers`; or the model cannot be held by Marian's layout.
    """
    if type(model) is not VanillaForConditionalGeneration or model.config.positions != "sinusoidal":
        raise ValueError(
            f"{type(model).__name__} with positions={model.config.positions!r} does not fit Marian's layout; it takes "
            "VanillaForConditionalGeneration with positions='sinusoidal'"
        )
    marian = to_transformers(model)
    state, config, start = marian.state_dict(), marian.config, marian.config.decoder_start_token_id
    source = state["model.decoder.embed_tokens.weight"][start] * marian.model.decoder.embed_scale  # (D,)
    if start == config.vocab_size - 1 and not source.any():
        return marian  # is laid out so from the beginning
    row = {"embed_tokens.weight": 0.0, "shared.weight": 0.0, "lm_head.weight": 0.0, "final_logits_bias": -1e4}
    for key, value in state.items():
        if (ending := next((e for e in row if key.endswith(e)), None)) is not None:
            along = 1 if ending == "final_logits_bias" else 0  # (1, V), the others (V, D)
            state[key] = torch.cat([value, torch.full_like(value.narrow(along, 0, 1), row[ending])], dim=along)
    table = "model.decoder.embed_positions.weight"
    state[table] = torch.cat([state[table][:1] + source, state[table][1:]])
    wider = copy.deepcopy(config)
    wider.decoder_start_token_id = config.vocab_size
    wider.vocab_size = wider.decoder_vocab_size = config.vocab_size + 1
    result = build(MarianMTModel, wider, state, marian)
    result.generation_config.decoder_start_token_id = config.vocab_size
    result._keys_to_ignore_on_save = set()  # the position table is no longer the one that loading would compute
    return result
