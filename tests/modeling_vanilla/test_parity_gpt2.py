# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The decoder variant against Hugging Face's GPT-2 with the same random weights."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from modeling_vanilla import VanillaConfig, VanillaForCausalLM
from modeling_vanilla.cache_name import CACHE

B, T, H, D, F, V, PLACES = 3, 7, 4, 24, 29, 31, 40
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
RIGHT = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])

RULES = [
    (r"^transformer\.wte", "model.decoder.embed_tokens"),
    (r"^transformer\.wpe", "model.decoder.embeddings.positions"),
    (r"^transformer\.ln_f", "model.decoder.norm"),
    (r"^transformer\.h\.", "model.decoder.layers."),
    (r"ln_1", "self_attn_norm"),
    (r"ln_2", "feed_forward_norm"),
    (r"attn\.c_proj", "self_attn.out_proj"),
    (r"attn\.([qkv])_proj", r"self_attn.\1_proj"),
    (r"mlp\.c_fc", "feed_forward.fc1"),
    (r"mlp\.c_proj", "feed_forward.fc2"),
]


def as_linear(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """GPT-2 multiplies from the left, (in, out), and holds queries, keys and values side by side."""
    linear = {}
    for key, value in state.items():
        if ".c_" in key and key.endswith("weight"):
            value = value.T
        if ".c_attn." in key:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                linear[key.replace("c_attn", f"{name}_proj")] = part
        else:
            linear[key] = value
    return linear


@pytest.fixture(params=["eager", "sdpa"])
def models(request, randomise, rename):
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=V,
            n_embd=D,
            n_layer=3,
            n_head=H,
            n_inner=F,
            n_positions=PLACES,
            bos_token_id=1,
            eos_token_id=1,
            attn_implementation="eager",
        )
    )
    randomise(theirs)
    ours = VanillaForCausalLM(
        VanillaConfig.gpt2(
            vocab_size=V,
            d_model=D,
            num_layers=3,
            num_heads=H,
            d_ff=F,
            max_position_embeddings=PLACES,
            bos_token_id=1,
            eos_token_id=1,
            attn_implementation=request.param,
        )
    ).eval()
    ours.load_state_dict(rename(as_linear(theirs.state_dict()), RULES))
    return ours, theirs


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(2, V, (B, T), generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("items", [None, 11], ids=["mean", "num_items"])
def test_logits_loss_and_gradients(models, ids, items, assert_varied):
    ours, theirs = models
    real = RIGHT.bool()
    labels = ids.masked_fill(~real, -100)
    labels[0, 3] = -100
    batch = {"input_ids": ids, "attention_mask": RIGHT, "labels": labels, "num_items_in_batch": items}
    got, expected = ours(**batch), theirs(**batch)
    torch.testing.assert_close(got.logits[real], expected.logits[real], **CLOSE)
    torch.testing.assert_close(got.loss, expected.loss, **CLOSE)
    assert_varied(expected.logits[real])
    got.loss.backward()
    expected.loss.backward()
    pairs = {
        "tied embedding": (ours.model.decoder.embed_tokens, theirs.transformer.wte),
        "positions": (ours.model.decoder.embeddings.positions, theirs.transformer.wpe),
        "final norm": (ours.model.decoder.norm, theirs.transformer.ln_f),
    }
    for name, (mine, reference) in pairs.items():
        torch.testing.assert_close(mine.weight.grad, reference.weight.grad, **CLOSE, msg=name)


def test_states_attentions_and_cache(models, ids):
    ours, theirs = models
    got, expected = ours(ids, use_cache=True), theirs(ids, use_cache=True)
    for mine, reference in zip(got[CACHE].layers, expected[CACHE].layers, strict=True):
        torch.testing.assert_close(mine.keys, reference.keys, **CLOSE)
        torch.testing.assert_close(mine.values, reference.values, **CLOSE)
    got, expected = ours(ids, output_hidden_states=True), theirs(ids, output_hidden_states=True)
    for mine, reference in zip(got.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(mine, reference, **CLOSE)


@pytest.mark.parametrize("padded", [False, True], ids=["full", "left_padded"])
def test_greedy_and_beam_output(models, ids, padded, assert_same_generation):
    """`generate` continues prompts of unequal length, padded on the left, as GPT-2 does."""
    ours, theirs = models
    mask = RIGHT.flip(1) if padded else torch.ones_like(RIGHT)
    inputs = {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}
    assert_same_generation(ours, theirs, inputs, max_new_tokens=10, pad_token_id=0, eos_token_id=1, bos_token_id=1)
