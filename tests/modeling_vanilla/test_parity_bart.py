# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The encoder-decoder with learned positions against Hugging Face's BART with the same random weights."""

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration

B, S, T, H, D, F, V, PLACES = 3, 7, 5, 4, 24, 29, 31, 40
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
PAD, START, EOS = 1, 2, 3
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])

RULES = [
    (r"final_logits_bias|shared", None),  # a buffer of zeros; the embedding under a third name
    (r"embed_positions", "embeddings.positions"),
    (r"layernorm_embedding", "embeddings.norm"),
    (r"encoder_attn_layer_norm", "cross_attn_norm"),
    (r"self_attn_layer_norm", "self_attn_norm"),
    (r"final_layer_norm", "feed_forward_norm"),
    (r"encoder_attn\.", "cross_attn."),
    (r"\.(fc\d)\.", r".feed_forward.\1."),
]


def build(kernel, scale, randomise, rename):
    theirs = BartForConditionalGeneration(
        BartConfig(
            vocab_size=V,
            d_model=D,
            encoder_layers=2,
            decoder_layers=3,
            encoder_attention_heads=H,
            decoder_attention_heads=H,
            encoder_ffn_dim=F,
            decoder_ffn_dim=F,
            max_position_embeddings=PLACES,
            scale_embedding=scale,
            activation_function="gelu",
            pad_token_id=PAD,
            bos_token_id=START,
            eos_token_id=EOS,
            decoder_start_token_id=START,
            forced_eos_token_id=None,
            attn_implementation="eager",
        )
    )
    randomise(theirs)
    assert not theirs.final_logits_bias.any()
    ours = VanillaForConditionalGeneration(
        VanillaConfig(
            vocab_size=V,
            d_model=D,
            num_layers=2,
            num_decoder_layers=3,
            num_heads=H,
            d_ff=F,
            max_position_embeddings=PLACES,
            positions="learned",
            embedding_norm=True,
            activation="gelu",
            scale_embeddings=scale,
            pad_token_id=PAD,
            bos_token_id=START,
            eos_token_id=EOS,
            decoder_start_token_id=START,
            attn_implementation=kernel,
        )
    ).eval()
    # BART leaves two rows unused in front of its position tables.
    state = {k: v[2:] if "embed_positions" in k else v for k, v in theirs.state_dict().items()}
    ours.load_state_dict(rename(state, RULES))
    return ours, theirs


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(4, V, (B, S), generator=generator).masked_fill(MASK == 0, PAD)
    labels = torch.randint(4, V, (B, T), generator=generator)
    labels[1, 2:], labels[2, 4] = -100, -100
    return {"input_ids": ids, "attention_mask": MASK, "labels": labels}


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("scale", [False, True], ids=["unscaled", "scaled"])
def test_logits_loss_and_gradients(kernel, scale, batch, randomise, rename, assert_varied):
    ours, theirs = build(kernel, scale, randomise, rename)
    got, expected = ours(**batch), theirs(**batch)
    torch.testing.assert_close(got.logits, expected.logits, **CLOSE)
    torch.testing.assert_close(got.loss, expected.loss, **CLOSE)
    torch.testing.assert_close(
        got.encoder_last_hidden_state[MASK.bool()], expected.encoder_last_hidden_state[MASK.bool()], **CLOSE
    )
    assert_varied(expected.logits.flatten(0, 1))
    got.loss.backward()
    expected.loss.backward()
    gradient = theirs.model.shared.weight.grad  # of the source, of the target and of the output
    assert gradient.abs().max() > 0.1
    torch.testing.assert_close(ours.lm_head.weight.grad, gradient, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        ours.model.decoder.layers[0].cross_attn.k_proj.weight.grad,
        theirs.model.decoder.layers[0].encoder_attn.k_proj.weight.grad,
        **CLOSE,
    )


def test_cross_attentions(batch, randomise, rename):
    ours, theirs = build("eager", False, randomise, rename)
    got, expected = ours(**batch, output_attentions=True), theirs(**batch, output_attentions=True)
    for name, layers in (("encoder_attentions", 2), ("decoder_attentions", 3), ("cross_attentions", 3)):
        assert len(getattr(got, name)) == len(getattr(expected, name)) == layers
        for mine, reference in zip(getattr(got, name), getattr(expected, name), strict=True):
            rows = MASK.bool()[:, None].expand(B, H, S) if name == "encoder_attentions" else ...
            torch.testing.assert_close(mine[rows], reference[rows], **CLOSE)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_greedy_and_beam_output(kernel, batch, randomise, rename, assert_same_generation):
    ours, theirs = build(kernel, False, randomise, rename)
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    assert_same_generation(
        ours,
        theirs,
        inputs,
        max_new_tokens=10,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=EOS,
        decoder_start_token_id=START,
    )
