"""Saving, loading, sharing and resizing of weights; the names of the weights are a promise to every saved model."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from modeling_vanilla import (
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaForSequenceClassification,
    VanillaModel,
)

VARIANTS = ("encoder-decoder", "encoder", "decoder")
HEADS = {
    "encoder-decoder": VanillaForConditionalGeneration,
    "encoder": VanillaForMaskedLM,
    "decoder": VanillaForCausalLM,
}

ATTENTION = [f"{p}_proj.{w}" for p in ("q", "k", "v", "out") for w in ("weight", "bias")]
NORM = ["weight", "bias"]
SELF = [f"self_attn.{n}" for n in ATTENTION] + [f"self_attn_norm.{n}" for n in NORM]
CROSS = [f"cross_attn.{n}" for n in ATTENTION] + [f"cross_attn_norm.{n}" for n in NORM]
FEED_FORWARD = [f"feed_forward.fc{i}.{n}" for i in (1, 2) for n in NORM] + [f"feed_forward_norm.{n}" for n in NORM]


def stack_names(stack: str, layer: list[str], **options) -> set[str]:
    """Return the names of one stack of two layers."""
    names = {f"{stack}.layers.{i}.{n}" for i in range(2) for n in layer} | {f"{stack}.embed_tokens.weight"}
    if options.get("norm_order") == "pre":
        names |= {f"{stack}.norm.{n}" for n in NORM}
    if options.get("positions") == "learned":
        names.add(f"{stack}.embeddings.positions.weight")
    if options.get("type_vocab_size"):
        names.add(f"{stack}.embeddings.types.weight")
    if options.get("embedding_norm"):
        names |= {f"{stack}.embeddings.norm.{n}" for n in NORM}
    return names


def base_names(variant: str, **options) -> set[str]:
    names = set()
    if variant != "decoder":
        names |= stack_names("encoder", SELF + FEED_FORWARD, **options)
    if variant != "encoder":
        cross = CROSS if variant == "encoder-decoder" else []
        names |= stack_names("decoder", SELF + cross + FEED_FORWARD, **options)
    return names


@pytest.mark.parametrize(
    "options",
    [{}, {"norm_order": "pre", "positions": "learned", "type_vocab_size": 2, "embedding_norm": True}],
    ids=["paper", "all options"],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_names_of_the_weights(build, variant, options):
    base = base_names(variant, **options)
    in_head = {f"model.{name}" for name in base}
    language = {"lm_head.weight"}
    if variant == "encoder":
        language |= {"lm_head.bias", *(f"transform.{part}.{n}" for part in ("dense", "norm") for n in NORM)}
    classifier = {f"classifier.{part}.{n}" for part in ("dense", "out_proj") for n in NORM}
    assert set(build(variant, VanillaModel, **options).state_dict()) == base
    assert set(build(variant, **options).state_dict()) == in_head | language
    assert set(build(variant, VanillaForSequenceClassification, **options).state_dict()) == in_head | classifier


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_round_trip_changes_no_bit(build, batch_of, tmp_path, poisoned_memory, variant, positions, dtype):
    model = build(variant, positions=positions).to(dtype)
    expected = model(**batch_of(variant)).logits
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix not in (".py", ".json")) == ["model.safetensors"]

    with poisoned_memory():
        loaded, info = type(model).from_pretrained(tmp_path, dtype=dtype, output_loading_info=True)
    assert not any(info.values()), info
    assert loaded.dtype == dtype
    assert not loaded.training
    assert torch.equal(loaded(**batch_of(variant)).logits, expected)
    tables = {n: b for n, b in model.named_buffers() if n.endswith("positions.table")}
    assert bool(tables) == (positions == "sinusoidal")
    for name, table in tables.items():
        assert loaded.get_buffer(name).dtype == torch.float32  # bf16 cannot tell position 257 from 256
        assert torch.equal(loaded.get_buffer(name), table)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_tied_weights_stay_tied_and_others_apart(build, tmp_path, variant, tied):
    model = build(variant, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    stacks = {"encoder-decoder": ("encoder", "decoder")}.get(variant, (variant,))
    matrices = {f"model.{stack}.embed_tokens.weight" for stack in stacks} | {"lm_head.weight"}
    saved = matrices & set(load_file(tmp_path / "model.safetensors"))
    assert len(saved) == (1 if tied else len(matrices))
    loaded = type(model).from_pretrained(tmp_path)
    for each in (model, loaded):
        assert len({each.get_parameter(name).data_ptr() for name in matrices}) == len(saved)
    for name in matrices:
        assert torch.equal(loaded.get_parameter(name), model.get_parameter(name))
    if not tied:
        values = [model.get_parameter(name) for name in matrices]
        assert not torch.equal(values[0], values[1])


ENCODER, DECODER, OUTPUT = "model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"
SHARED = {
    "encoder-decoder": [(), (ENCODER, DECODER), (ENCODER, OUTPUT), (DECODER, OUTPUT), (ENCODER, DECODER, OUTPUT)],
    "encoder": [(), (ENCODER, OUTPUT)],
    "decoder": [(), (DECODER, OUTPUT)],
}


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize(("variant", "shared"), [(v, names) for v in VARIANTS for names in SHARED[v]])
def test_whatever_the_flag_says_no_matrix_is_lost(build, batch_of, tmp_path, variant, shared, flag):
    """Adapters and users untie and tie matrices; a file that trusts the flag alone would hold too few of them."""
    model = build(variant, tie_word_embeddings=False)
    for name in shared:
        model.get_submodule(name).weight = model.get_submodule(shared[0]).weight
    model.config.tie_word_embeddings = flag
    expected = model(**batch_of(variant)).logits
    for source, folder in ((model, tmp_path / "model"), (model.model, tmp_path / "base")):
        source.save_pretrained(folder)
    loaded, info = type(model).from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(loaded(**batch_of(variant)).logits, expected)
    base, info = VanillaModel.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert not info["missing_keys"]
    assert all(torch.equal(value, model.model.state_dict()[name]) for name, value in base.state_dict().items())
    if {ENCODER, DECODER} <= set(shared):  # as in T5: one matrix stays one
        assert loaded.get_submodule(ENCODER).weight is loaded.get_submodule(DECODER).weight
        assert base.encoder.embed_tokens.weight is base.decoder.embed_tokens.weight


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_base_and_heads_load_from_each_other(build, tmp_path, variant, tied):
    base = build(variant, VanillaModel, tie_word_embeddings=tied)
    base.save_pretrained(tmp_path / "base")
    for head in (HEADS[variant], VanillaForSequenceClassification):
        loaded, info = head.from_pretrained(tmp_path / "base", output_loading_info=True)
        assert {n.split(".")[0] for n in info["missing_keys"]} <= {"lm_head", "transform", "classifier"}
        assert not info["unexpected_keys"]
        for name, value in base.state_dict().items():
            assert torch.equal(loaded.model.state_dict()[name], value), name

        loaded.save_pretrained(tmp_path / "head")
        for reader in (VanillaModel, AutoModel):
            again, info = reader.from_pretrained(tmp_path / "head", output_loading_info=True)
            assert not info["missing_keys"]
            for name, value in base.state_dict().items():
                assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("size", [41, 23])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head", ["language", "classifier", "base"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_resizing_the_vocabulary(build, batch_of, tmp_path, variant, head, tied, size):
    head_class = {"language": None, "classifier": VanillaForSequenceClassification, "base": VanillaModel}[head]
    model = build(variant, head_class, tie_word_embeddings=tied)
    inputs = {name: ids % 16 + 7 for name, ids in batch_of(variant).items()}
    if head == "classifier":
        inputs = {"input_ids": inputs["input_ids"]}
    kept = min(size, 31)
    before = model(**inputs)[0]
    kind = type(model.get_input_embeddings())
    model.resize_token_embeddings(size, mean_resizing=False)
    assert model.config.vocab_size == size
    assert type(model.get_input_embeddings()) is kind
    for name, parameter in model.named_parameters():
        if re.search(r"embed_tokens|lm_head", name):
            assert parameter.shape[0] == size, name
    after = model(**inputs)[0]
    torch.testing.assert_close(after[..., :kept], before[..., :kept], atol=1e-6, rtol=1e-6)
    if head == "language":
        assert after.shape[-1] == size
        # New ids go in and out of both stacks.
        new = {name: torch.full_like(ids, size - 1) for name, ids in inputs.items()}
        assert model(**new, labels=new["input_ids"][:, : after.shape[1]]).loss.isfinite()

    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == size
    assert torch.equal(type(model).from_pretrained(tmp_path)(**inputs)[0], after)


def test_resizing_keeps_the_matrices_apart(build):
    model = build("encoder-decoder", tie_word_embeddings=False)
    names = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    before = [model.get_parameter(n).detach().clone() for n in names]
    model.resize_token_embeddings(41, mean_resizing=False)
    for name, matrix in zip(names, before, strict=True):
        torch.testing.assert_close(model.get_parameter(name)[:31], matrix)


@pytest.mark.parametrize("variant", VARIANTS)
def test_casts_leave_the_sinusoids_exact(build, tmp_path, variant):
    model = build(variant, max_position_embeddings=300)
    tables = {n: b.clone() for n, b in model.named_buffers()}
    model.save_pretrained(tmp_path)  # in fp32
    for other in (model.bfloat16(), model.half().float(), type(model).from_pretrained(tmp_path, dtype=torch.float16)):
        assert {n: b.dtype for n, b in other.named_buffers()} == dict.fromkeys(tables, torch.float32)
        assert all(torch.equal(other.get_buffer(n), table) for n, table in tables.items())
