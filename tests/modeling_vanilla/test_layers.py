# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Layers and whole stacks against torch.nn with the same weights: outputs and gradients, both norm orders."""

import math

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from modeling_vanilla import VanillaConfig, VanillaModel
from modeling_vanilla.layers import FUSED, DecoderLayer, EncoderLayer, FeedForward, make_activation

B, T, S, H, D, F, V = 2, 3, 5, 4, 24, 29, 31
# True = real token. The second row is padded on the right.
TARGET_REAL = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
SOURCE_REAL = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
CAUSAL = torch.ones(T, T).tril().bool()
CLOSE = {"atol": 1e-5, "rtol": 1e-5}

RULES = [
    (r"multihead_attn\.", "cross_attn."),
    (r"linear(\d)\.", r"feed_forward.fc\1."),
    (r"norm1\.", "self_attn_norm."),
]
ENCODER_RULES = [*RULES, (r"norm2\.", "feed_forward_norm.")]
DECODER_RULES = [*RULES, (r"norm2\.", "cross_attn_norm."), (r"norm3\.", "feed_forward_norm.")]


def split_in_proj(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torch.nn stacks the projections of queries, keys and values in one matrix, in this order."""
    split = {}
    for key, value in state.items():
        if "in_proj_" in key:
            head, kind = key.split("in_proj_")
            split |= {f"{head}{n}_proj.{kind}": part for n, part in zip("qkv", value.chunk(3), strict=True)}
        else:
            split[key] = value
    return split


def settings(norm_order: str, activation: str = "relu") -> dict:
    return dict(
        d_model=D,
        nhead=H,
        dim_feedforward=F,
        dropout=0.0,
        activation=activation,
        batch_first=True,
        norm_first=norm_order == "pre",
    )


def our_config(norm_order: str, kernel: str, **numbers) -> VanillaConfig:
    numbers = dict(d_model=D, d_ff=F, num_heads=H, vocab_size=V, dropout=0.0) | numbers
    return VanillaConfig.tiny(norm_order=norm_order, attn_implementation=kernel, **numbers)


def assert_same(ours, theirs, our_inputs, their_inputs, real):
    """Compare outputs at real places, and the gradients that a loss over those sends into every input."""
    torch.testing.assert_close(ours[real], theirs[real], **CLOSE)
    weights = torch.randn(ours[real].shape, generator=torch.Generator().manual_seed(5))
    got = torch.autograd.grad((ours[real] * weights).sum(), our_inputs)
    expected = torch.autograd.grad((theirs[real] * weights).sum(), their_inputs)
    for a, b in zip(got, expected, strict=True):
        assert b.abs().max() > 0.1
        torch.testing.assert_close(a, b, **CLOSE)


def test_feed_forward_is_equation_2():
    """FFN(x) = max(0, x W1 + b1) W2 + b2."""
    config = our_config("post", "eager")
    module = FeedForward(config)
    x = torch.randn(B, T, D)
    inner = (x @ module.fc1.weight.T + module.fc1.bias).clamp(min=0)
    torch.testing.assert_close(module(x), inner @ module.fc2.weight.T + module.fc2.bias)
    assert module.fc1.weight.shape == (F, D) and (inner == 0).any()


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("norm_order", ["post", "pre"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer(norm_order, kernel, activation, randomise, rename):
    theirs = randomise(nn.TransformerEncoderLayer(**settings(norm_order, activation)))
    ours = EncoderLayer(our_config(norm_order, kernel, activation=activation), layer_idx=0).eval()
    ours.load_state_dict(rename(split_in_proj(theirs.state_dict()), ENCODER_RULES))
    x = torch.randn(B, S, D, requires_grad=True)
    got = ours(x, SOURCE_REAL[:, None, None].expand(B, 1, S, S))
    # Gradients are on, so that torch.nn takes no fused path of its own.
    assert_same(got, theirs(x, src_key_padding_mask=~SOURCE_REAL), [x], [x], SOURCE_REAL)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("norm_order", ["post", "pre"])
def test_decoder_layer(norm_order, kernel, randomise, rename):
    theirs = randomise(nn.TransformerDecoderLayer(**settings(norm_order)))
    ours = DecoderLayer(our_config(norm_order, kernel), layer_idx=0).eval()
    ours.load_state_dict(rename(split_in_proj(theirs.state_dict()), DECODER_RULES))
    x, memory = torch.randn(B, T, D, requires_grad=True), torch.randn(B, S, D, requires_grad=True)
    got = ours(
        x,
        memory,
        attention_mask=CAUSAL & TARGET_REAL[:, None, None],
        encoder_attention_mask=SOURCE_REAL[:, None, None].expand(B, 1, T, S),
    )
    expected = theirs(
        x,
        memory,
        tgt_mask=~CAUSAL,
        tgt_key_padding_mask=~TARGET_REAL,
        memory_key_padding_mask=~SOURCE_REAL,
    )
    assert_same(got, expected, [x, memory], [x, memory], TARGET_REAL)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("norm_order", ["post", "pre"])
def test_decoder_layer_without_cross_attention_is_a_masked_encoder_layer(norm_order, kernel, randomise, rename):
    theirs = randomise(nn.TransformerEncoderLayer(**settings(norm_order)))
    ours = DecoderLayer(our_config(norm_order, kernel), layer_idx=0, cross_attention=False).eval()
    ours.load_state_dict(rename(split_in_proj(theirs.state_dict()), ENCODER_RULES))
    x = torch.randn(B, T, D, requires_grad=True)
    got = ours(x, attention_mask=CAUSAL & TARGET_REAL[:, None, None])
    assert_same(got, theirs(x, src_mask=~CAUSAL, src_key_padding_mask=~TARGET_REAL), [x], [x], TARGET_REAL)


@pytest.mark.parametrize("layer", [EncoderLayer, DecoderLayer])
@pytest.mark.parametrize("norm_order", ["post", "pre"])
def test_dropout_falls_on_every_sublayer_before_the_sum(layer, norm_order, monkeypatch):
    """Section 5.4. With everything dropped only the residual is left: x, or LayerNorm after LayerNorm of x."""
    module = layer(our_config(norm_order, "eager", dropout=0.5), 0).train()
    x, memory = torch.randn(B, T, D), torch.randn(B, S, D)
    monkeypatch.setattr(module.dropout, "p", 1.0)
    sublayers = 2 if layer is EncoderLayer else 3
    want = x
    if norm_order == "post":
        for _ in range(sublayers):
            want = nn.functional.layer_norm(want, (D,), eps=1e-5)
    torch.testing.assert_close(module(x) if layer is EncoderLayer else module(x, memory), want)


def their_transformer(norm_order: str) -> nn.Transformer:
    """torch.nn.Transformer; for post-norm without its final norms, which figure 1 does not have."""
    encoder = decoder = None
    if norm_order == "post":
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**settings("post")), 2, enable_nested_tensor=False)
        decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**settings("post")), 3)
    return nn.Transformer(
        num_encoder_layers=2,
        num_decoder_layers=3,
        custom_encoder=encoder,
        custom_decoder=decoder,
        **settings(norm_order),
    )


def positions(length: int) -> torch.Tensor:
    angles = [[p / 10000 ** (2 * i / D) for i in range(D // 2)] for p in range(length)]
    return torch.tensor([[f(a) for a in row for f in (math.sin, math.cos)] for row in angles])


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("norm_order", ["post", "pre"])
def test_whole_transformer(norm_order, kernel, randomise, rename):
    """The paper's model is torch.nn.Transformer on sqrt(D) * embedding + sinusoid, one matrix for both sides."""
    config = our_config(norm_order, kernel, num_layers=2, num_decoder_layers=3)
    ours, theirs = randomise(VanillaModel(config), seed=1), randomise(their_transformer(norm_order))
    state = split_in_proj(theirs.state_dict())
    weights = {
        **rename({k: v for k, v in state.items() if k.startswith("encoder.layers")}, ENCODER_RULES),
        **rename({k: v for k, v in state.items() if k.startswith("decoder.layers")}, DECODER_RULES),
        **{k: v for k, v in state.items() if ".layers" not in k},
    }
    missing, unexpected = ours.load_state_dict(weights, strict=False)
    assert sorted(missing) == ["decoder.embed_tokens.weight", "encoder.embed_tokens.weight"] and not unexpected
    source, target = torch.randint(V, (B, S)), torch.randint(V, (B, T))
    matrix = ours.encoder.embed_tokens.weight.detach().clone().requires_grad_()
    expected = theirs(
        matrix[source] * math.sqrt(D) + positions(S),
        matrix[target] * math.sqrt(D) + positions(T),
        tgt_mask=~CAUSAL,
        src_key_padding_mask=~SOURCE_REAL,
        memory_key_padding_mask=~SOURCE_REAL,
        tgt_key_padding_mask=~TARGET_REAL,
    )
    got = ours(
        source, attention_mask=SOURCE_REAL.long(), decoder_input_ids=target, decoder_attention_mask=TARGET_REAL.long()
    )
    assert ours.decoder.embed_tokens.weight is ours.encoder.embed_tokens.weight
    assert_same(got.last_hidden_state, expected, [ours.encoder.embed_tokens.weight], [matrix], TARGET_REAL)


@pytest.mark.parametrize("name", sorted(FUSED))
def test_a_fused_activation_is_the_function_of_its_name(name):
    """Value and slope are those that transformers writes out (Hendrycks and Gimpel 2016), and less is kept for the backward pass."""
    inputs = torch.cat([torch.linspace(-9, 9, 4001, dtype=torch.float64), torch.tensor([-1e4, 0.0, 1e4])])
    found, kept = [], []
    for function in (make_activation(VanillaConfig.tiny(activation=name)), ACT2FN[name]):
        given, sizes = inputs.clone().requires_grad_(), {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.update({tensor.data_ptr(): tensor.nelement()}) or tensor,
            lambda tensor: tensor,
        ):
            output = function(given)
        (slope,) = torch.autograd.grad(output.sum(), given)
        found.append(torch.stack([output, slope]))
        kept.append(sum(sizes.values()))
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-9)  # "gelu_fast" has ten digits of the square root of 2 / pi
    assert kept[0] == len(inputs) < kept[1]
