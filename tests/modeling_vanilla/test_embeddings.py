# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Token vectors and positions against section 3.4 and 3.5, with the sine and cosine of Python's math module."""

import math

import pytest
import torch

from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForConditionalGeneration, VanillaModel
from modeling_vanilla.embeddings import (
    Embeddings,
    SinusoidalPositions,
    TokenEmbedding,
    default_position_ids,
    sinusoid_table,
)


def closed_form(position: int, dim: int) -> list[float]:
    """PE(pos, 2i) = sin(pos / 10000^(2i/dim)), PE(pos, 2i+1) = cos(the same): sine and cosine in turn."""
    angles = [position / 10000 ** (2 * i / dim) for i in range(dim // 2)]
    return [wave(angle) for angle in angles for wave in (math.sin, math.cos)]


@pytest.mark.parametrize("dim", [2, 6, 24, 512])
def test_sinusoid_in_closed_form_also_far_out(dim):
    """fp32 holds a sine to 6e-8; an angle computed in fp32 would be off by up to 4e-3 at position 100,000."""
    places = [0, 1, 2, 7, 255, 256, 257, 4095, 99_999] if dim < 512 else [0, 1, 511, 1999]
    table = sinusoid_table(places[-1] + 1, dim)
    assert table.shape == (places[-1] + 1, dim) and table.dtype == torch.float32
    want = torch.tensor([closed_form(p, dim) for p in places], dtype=torch.float64)
    torch.testing.assert_close(table[places].double(), want, atol=6e-8, rtol=0)


def test_a_shift_of_positions_is_a_rotation():
    """Section 3.5: PE(pos + k) is a linear function of PE(pos), the same for every pos."""
    table, shift = sinusoid_table(60, 8).double(), 13
    for i in range(4):
        angle = shift / 10000 ** (2 * i / 8)
        turn = torch.tensor(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64
        )
        pair = table[:, 2 * i : 2 * i + 2]
        torch.testing.assert_close(pair[shift:], pair[:-shift] @ turn.T, atol=3e-7, rtol=0)


def tables(model) -> list[torch.Tensor]:
    return [m.table for m in model.modules() if isinstance(m, SinusoidalPositions)]


CASTS = {
    "to_bf16": lambda model: model.to(torch.bfloat16),
    "bfloat16": lambda model: model.bfloat16(),
    "half": lambda model: model.half(),
    "double": lambda model: model.double(),
    "there_and_back": lambda model: model.half().float(),
}


@pytest.mark.parametrize("cast", CASTS)
def test_the_table_stays_exact_when_the_model_is_cast(cast):
    """bf16 has 8 bits: it cannot tell the angle of position 257 from that of 256."""
    model = CASTS[cast](VanillaForConditionalGeneration(VanillaConfig.tiny()))
    want = torch.tensor([closed_form(p, 24) for p in range(64)], dtype=torch.float64)
    assert len(tables(model)) == 2
    for table in tables(model):
        assert table.dtype == torch.float32
        torch.testing.assert_close(table.double(), want, atol=6e-8, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_table_is_refilled_by_from_pretrained_and_in_no_checkpoint(dtype, tmp_path):
    """A buffer outside the checkpoint is uninitialised memory after loading, unless somebody fills it."""
    VanillaForConditionalGeneration(VanillaConfig.tiny()).save_pretrained(tmp_path)
    model = VanillaForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
    assert model.lm_head.weight.dtype == dtype
    want = torch.tensor([closed_form(p, 24) for p in range(64)], dtype=torch.float64)
    for table in tables(model):
        assert table.dtype == torch.float32 and table.device.type == "cpu"
        torch.testing.assert_close(table.double(), want, atol=6e-8, rtol=0)
    assert not [key for key in model.state_dict() if "table" in key]


def test_positions_are_added_before_the_cast_to_bf16():
    """The sum is rounded once: bf16(token + PE) and not bf16(token) + bf16(PE)."""
    embeddings = Embeddings(VanillaConfig.tiny(d_model=6, num_heads=2)).to(torch.bfloat16).eval()
    vectors = torch.randn(1, 64, 6, dtype=torch.bfloat16)
    waves = torch.tensor([closed_form(p, 6) for p in range(64)])
    got = embeddings(vectors, torch.arange(64)[None])
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, (vectors.float() + waves).to(torch.bfloat16))
    assert not torch.equal(got, vectors + waves.to(torch.bfloat16))


def test_embeddings_are_multiplied_by_the_root_of_d_model_unless_told_otherwise():
    ids = torch.tensor([[5, 0, 96]])
    for scaled, factor in ((True, math.sqrt(24)), (False, 1.0)):
        for stack in (lambda m: m.encoder, lambda m: m.decoder):
            embedding = stack(VanillaModel(VanillaConfig.tiny(scale_embeddings=scaled))).embed_tokens
            assert isinstance(embedding, TokenEmbedding)
            torch.testing.assert_close(embedding(ids), embedding.weight[ids] * factor)
            assert embedding.embed_scale == factor  # the name by which other programs ask for it


def test_positions_types_and_norm_are_summed_in_that_order():
    config = VanillaConfig.tiny(positions="learned", type_vocab_size=3, embedding_norm=True, dropout=0.5)
    embeddings = Embeddings(config).eval()
    torch.nn.init.normal_(embeddings.norm.weight)
    torch.nn.init.normal_(embeddings.norm.bias)
    vectors, places, types = torch.randn(2, 3, 24), torch.tensor([[4, 0, 9], [1, 1, 2]]), torch.tensor([[2, 0, 1]] * 2)
    total = (vectors + embeddings.positions.weight[places] + embeddings.types.weight[types]).double()
    centred = total - total.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + config.layer_norm_eps).sqrt()
    want = normed * embeddings.norm.weight.double() + embeddings.norm.bias.double()
    torch.testing.assert_close(embeddings(vectors, places, types).double(), want, atol=1e-5, rtol=0)
    torch.testing.assert_close(embeddings(vectors, places), embeddings(vectors, places, torch.zeros_like(types)))
    # Section 5.4: dropout on the sum, in training; what survives is divided by 1 - p.
    dropped = embeddings.train()(vectors, places, types)
    zero = dropped == 0
    assert 0.2 < zero.double().mean() < 0.8
    torch.testing.assert_close(dropped[~zero].double(), 2 * want[~zero], atol=1e-5, rtol=1e-5)


def test_default_positions_count_real_tokens_only():
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 0, 1, 1]])
    want = [[0, 1, 2, 3, 4], [0, 0, 0, 1, 2], [0, 1, 2, 2, 2], [0, 0, 0, 1, 2]]
    assert default_position_ids(mask, 5, 0, mask.device).tolist() == want
    assert default_position_ids(mask.bool(), 5, 0, mask.device).tolist() == want
    assert default_position_ids(mask, 2, 3, mask.device).tolist() == [row[-2:] for row in want]
    assert default_position_ids(None, 3, 4, mask.device).tolist() == [[4, 5, 6]]
    assert default_position_ids(torch.zeros(4, 1, 3, 7), 3, 4, mask.device).tolist() == [[4, 5, 6]]


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("variant", ["encoder", "decoder"])
def test_left_padding_gives_the_unpadded_states(variant, positions, kernel, randomise):
    config = VanillaConfig.tiny(variant=variant, positions=positions, attn_implementation=kernel)
    model = randomise(VanillaModel(config))
    ids = torch.tensor([[11, 12, 13, 14, 15], [21, 22, 23, 24, 25]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    padded = model(ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(padded[:1], model(ids[:1]).last_hidden_state, atol=1e-5, rtol=0)
    torch.testing.assert_close(padded[1:, 2:], model(ids[1:, 2:]).last_hidden_state, atol=1e-5, rtol=0)
    wrong = model(ids, attention_mask=mask, position_ids=torch.arange(5)[None]).last_hidden_state
    assert (wrong[1, 2:] - padded[1, 2:]).abs().max() > 0.1


@pytest.mark.parametrize("use_cache", [None, False, True], ids=["default", "no_cache", "cache"])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_positions_that_restart_separate_packed_sequences(kernel, use_cache, randomise):
    """Two sequences in one row, each counted from 0, give what each gives alone; nobody has to pass use_cache."""
    model = randomise(VanillaForCausalLM(VanillaConfig.tiny(variant="decoder", attn_implementation=kernel)))
    first, second = torch.tensor([[11, 12, 13]]), torch.tensor([[21, 22, 23, 24]])
    packed = model(
        torch.cat([first, second], 1), position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3]]), use_cache=use_cache
    ).logits
    torch.testing.assert_close(packed[:, :3], model(first).logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(packed[:, 3:], model(second).logits, atol=1e-5, rtol=0)
