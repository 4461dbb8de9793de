# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The encoder-decoder with the paper's sinusoid against Hugging Face's Marian with the same random weights.

Marian's positions hold all sines first, then all cosines; the paper's hold them in turn. The residual stream of one is
a fixed permutation of the other's, so every matrix that reads or writes it is permuted on that side.
"""

import pytest
import torch
from transformers import MarianConfig, MarianMTModel

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration

B, S, T, H, D, F, V, PLACES = 3, 7, 5, 4, 24, 29, 31, 40
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
PAD, EOS = 30, 0
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])
# Ours at 2i is theirs at i (sine), ours at 2i + 1 is theirs at D/2 + i (cosine).
ORDER = torch.stack([torch.arange(D // 2), torch.arange(D // 2) + D // 2], dim=1).flatten()

RULES = [
    (r"final_logits_bias|shared|embed_positions", None),
    (r"encoder_attn_layer_norm", "cross_attn_norm"),
    (r"self_attn_layer_norm", "self_attn_norm"),
    (r"final_layer_norm", "feed_forward_norm"),
    (r"encoder_attn\.", "cross_attn."),
    (r"\.(fc\d)\.", r".feed_forward.\1."),
]
READS = ("embed_tokens", "lm_head", "q_proj", "k_proj", "v_proj", "fc1")  # d_model is their last axis
WRITES = ("out_proj", "fc2", "_norm")  # d_model is their first axis, and that of their bias


def permute(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Reorder the residual stream in every weight, under our names."""
    permuted = {}
    for key, value in state.items():
        module, kind = key.rsplit(".", 1)
        if module.endswith(WRITES):
            value = value[ORDER]
        elif kind == "weight":
            assert module.endswith(READS), key
            value = value[:, ORDER]
        permuted[key] = value
    return permuted


@pytest.fixture(params=["eager", "sdpa"])
def models(request, randomise, rename):
    theirs = MarianMTModel(
        MarianConfig(
            vocab_size=V,
            d_model=D,
            encoder_layers=2,
            decoder_layers=3,
            encoder_attention_heads=H,
            decoder_attention_heads=H,
            encoder_ffn_dim=F,
            decoder_ffn_dim=F,
            max_position_embeddings=PLACES,
            activation_function="swish",
            scale_embedding=True,
            pad_token_id=PAD,
            eos_token_id=EOS,
            decoder_start_token_id=PAD,
            forced_eos_token_id=None,
            attn_implementation="eager",
        )
    )
    randomise(theirs)
    assert not theirs.final_logits_bias.any()
    ours = VanillaForConditionalGeneration(
        VanillaConfig.marian(
            vocab_size=V,
            d_model=D,
            num_layers=2,
            num_decoder_layers=3,
            num_heads=H,
            d_ff=F,
            max_position_embeddings=PLACES,
            pad_token_id=PAD,
            eos_token_id=EOS,
            decoder_start_token_id=PAD,
            attn_implementation=request.param,
        )
    ).eval()
    ours.load_state_dict(permute(rename(theirs.state_dict(), RULES)))
    return ours, theirs


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(1, PAD, (B, S), generator=generator).masked_fill(MASK == 0, PAD)
    labels = torch.randint(1, PAD, (B, T), generator=generator)
    labels[1, 2:], labels[2, 4] = -100, -100
    return {"input_ids": ids, "attention_mask": MASK, "labels": labels}


def test_the_position_tables_are_permutations_of_each_other(models):
    ours, theirs = models
    for stack in ("encoder", "decoder"):
        table = getattr(ours.model, stack).embeddings.positions.table
        reference = getattr(theirs.model, stack).embed_positions.weight
        assert table.shape == (PLACES, D)
        torch.testing.assert_close(table, reference[:PLACES, ORDER], atol=1e-6, rtol=0)
        assert not torch.allclose(table, reference[:PLACES], atol=0.1)


def test_logits_loss_and_gradients(models, batch, assert_varied):
    ours, theirs = models
    got, expected = ours(**batch), theirs(**batch)
    torch.testing.assert_close(got.logits, expected.logits, **CLOSE)
    torch.testing.assert_close(got.loss, expected.loss, **CLOSE)
    torch.testing.assert_close(
        got.encoder_last_hidden_state[MASK.bool()],
        expected.encoder_last_hidden_state[..., ORDER][MASK.bool()],
        **CLOSE,
    )
    assert_varied(expected.logits.flatten(0, 1))
    got.loss.backward()
    expected.loss.backward()
    gradient = theirs.model.shared.weight.grad[:, ORDER]
    assert gradient.abs().max() > 0.1
    # Their padding row gets no gradient from the embedding (padding_idx), ours does: start token and padding are real.
    rows = torch.arange(V) != PAD
    torch.testing.assert_close(ours.lm_head.weight.grad[rows], gradient[rows], atol=1e-5, rtol=1e-4)


def test_greedy_and_beam_output(models, batch, assert_same_generation):
    ours, theirs = models
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    settings = dict(max_new_tokens=10, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD)
    assert_same_generation(ours, theirs, inputs, **settings)
