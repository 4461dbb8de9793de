# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The variants among themselves: an encoder-decoder of two parts, and the parts of an encoder-decoder."""

import pytest
import torch

from modeling_vanilla import VanillaForCausalLM, VanillaForMaskedLM, VanillaModel, assemble, cut

CLOSE = {"atol": 1e-6, "rtol": 1e-6}


def hidden(model, ids):
    with torch.no_grad():
        return model(ids).last_hidden_state


@pytest.fixture
def parts(build):
    # Two layers and three; the decoder's embedding is another one.
    encoder = build("encoder", num_layers=3)
    decoder = build("decoder")
    with torch.no_grad():
        decoder.model.decoder.embed_tokens.weight.add_(0.5 * torch.randn(31, 24))
    return encoder, decoder


def test_assembled_parts_compute_what_they_did(parts, tokens):
    encoder, decoder = parts
    ids = tokens(2, 5)
    model = assemble(encoder, decoder)
    assert (model.config.num_layers, model.config.num_decoder_layers) == (3, 2)
    torch.testing.assert_close(hidden(model.model.encoder, ids), hidden(encoder.model, ids), **CLOSE)
    torch.testing.assert_close(hidden(model.model.decoder, ids), hidden(decoder.model, ids), **CLOSE)
    assert torch.equal(model.lm_head.weight, decoder.lm_head.weight)
    assert not model.config.tie_word_embeddings
    cross = model.model.decoder.layers[1].cross_attn
    assert torch.isfinite(cross.q_proj.weight).all()
    assert 0.1 < cross.q_proj.weight.std() * (24 + 20) ** 0.5 / 2**0.5 < 2, "Xavier: variance 2 / (in + out)"
    assert not cross.out_proj.bias.any()
    logits = model(input_ids=ids, decoder_input_ids=ids).logits
    other = model(input_ids=ids.flip(1), decoder_input_ids=ids).logits
    assert (logits - other).abs().max() > 1e-3, "the decoder reads the encoder"
    with torch.no_grad():
        model.lm_head.weight.add_(1)
    assert not torch.equal(model.lm_head.weight, decoder.lm_head.weight), "no memory is shared"


def test_one_embedding_stays_one(build):
    encoder, decoder = build("encoder"), build("decoder")
    decoder.model.decoder.embed_tokens.weight.data = encoder.model.encoder.embed_tokens.weight.data.clone()
    model = assemble(encoder, decoder)
    assert model.config.tie_word_embeddings
    assert model.lm_head.weight is model.model.encoder.embed_tokens.weight is model.model.decoder.embed_tokens.weight


def test_parts_without_heads(build, tokens):
    encoder, decoder = build("encoder", VanillaModel), build("decoder", VanillaModel)
    model = assemble(encoder, decoder)
    torch.testing.assert_close(hidden(model.model.decoder, tokens(2, 5)), hidden(decoder, tokens(2, 5)), **CLOSE)
    assert torch.equal(model.lm_head.weight, decoder.decoder.embed_tokens.weight)


@pytest.mark.parametrize(
    ("option", "value"),
    [("head_dim", 6), ("d_ff", 30), ("norm_order", "pre"), ("activation", "gelu"), ("type_vocab_size", 2)],
)
def test_options_that_disagree_are_named(build, option, value):
    other = build("decoder")
    with pytest.raises(ValueError, match=f"{option}={value!r} and {getattr(other.config, option)!r}"):
        assemble(build("encoder", **{option: value}), other)


def test_wrong_variants_are_named(build):
    encoder, decoder, both = build("encoder"), build("decoder"), build("encoder-decoder")
    with pytest.raises(ValueError, match="variant='decoder' of the encoder"):
        assemble(decoder, decoder)
    with pytest.raises(ValueError, match="variant='encoder-decoder' of the decoder"):
        assemble(encoder, both)
    with pytest.raises(ValueError, match="variant='encoder' must be"):
        cut(encoder, "encoder")
    with pytest.raises(ValueError, match="part='middle'"):
        cut(both, "middle")


@pytest.mark.parametrize(("part", "head"), [("encoder", VanillaForMaskedLM), ("decoder", VanillaForCausalLM)])
def test_a_part_computes_what_it_did_and_loads_by_name(build, tokens, tmp_path, part, head):
    whole = build("encoder-decoder", num_decoder_layers=3, lm_head_bias=True)
    ids = tokens(2, 5)
    expected = hidden(getattr(whole.model, part), ids)
    piece = cut(whole, part)
    assert piece.config.variant == part
    assert piece.config.num_layers == {"encoder": 2, "decoder": 3}[part]
    torch.testing.assert_close(hidden(piece, ids), expected, **CLOSE)
    piece.save_pretrained(tmp_path)
    loaded, info = head.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert not [name for name in info["missing_keys"] if name.startswith("model.")]
    torch.testing.assert_close(hidden(loaded.model, ids), expected, **CLOSE)


def test_cutting_undoes_assembling(parts):
    for part, original in zip(("encoder", "decoder"), parts, strict=True):
        piece = cut(assemble(*parts), part)
        expected = original.base_model.state_dict()
        assert piece.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in piece.state_dict().items())
