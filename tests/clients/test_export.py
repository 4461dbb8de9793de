# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""torch.export: one graph of a model gives its numbers for any batch and length, and one with a cache generates."""

import pytest
import torch
from torch.export import Dim, export
from torch.fx import _pytree as fx_pytree
from torch.utils import _pytree
from transformers import DynamicCache
from transformers.integrations import executorch

from modeling_vanilla.cache_name import CACHE

VARIANTS = ("encoder-decoder", "encoder", "decoder")
GPT2 = {"norm_order": "pre", "positions": "learned", "scale_embeddings": False, "activation": "gelu_new"}


@pytest.fixture(autouse=True)
def no_traces():
    """Forget what executorch registered for caches: transformers.exporters has another idea of them, in one process."""
    known = DynamicCache in _pytree.SUPPORTED_NODES
    yield
    if DynamicCache in _pytree.SUPPORTED_NODES and not known:
        _pytree._deregister_pytree_node(DynamicCache)
        fx_pytree._deregister_pytree_flatten_spec(DynamicCache)


@pytest.fixture
def inputs_of(tokens):
    """Return a function that makes inputs of any size, padded on the left of one row and the right of another."""

    def make(variant: str, rows: int, length: int, target: int) -> dict:
        ids = tokens(rows, length, seed=rows)
        mask = torch.ones_like(ids)
        if rows > 1:
            mask[0, :2] = 0
            mask[-1, -1:] = 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        if variant == "encoder-decoder":
            inputs["decoder_input_ids"] = tokens(rows, target, seed=rows + 1)
        return inputs if variant == "encoder" else inputs | {"use_cache": False}

    return make


def shapes_of(inputs: dict, bounded: bool) -> dict:
    """Let batch and lengths change; the lengths between 1 and the 37 positions, or within what torch finds out."""
    batch, length, target = Dim("batch"), Dim("length", max=37), Dim("target", max=37)
    if not bounded:
        batch = length = target = Dim.AUTO
    axes = {"input_ids": length, "attention_mask": length, "decoder_input_ids": target}
    return {name: {0: batch, 1: axes[name]} if name in axes else None for name in inputs}


@pytest.mark.parametrize("strict", [False, True], ids=["traced", "strict"])
@pytest.mark.parametrize("bounded", [False, True], ids=["auto", "bounded"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_sizes(build, inputs_of, variant, bounded, strict):
    model = build(variant)
    sample = inputs_of(variant, 2, 6, 4)
    program = export(model, (), sample, dynamic_shapes=shapes_of(sample, bounded), strict=strict).module()
    for sizes in [(2, 6, 4), (3, 9, 7), (5, 37, 37), (1, 1, 1)]:
        inputs = inputs_of(variant, *sizes)
        with torch.no_grad():
            torch.testing.assert_close(program(**inputs).logits, model(**inputs).logits, atol=1e-6, rtol=0)


def test_too_long_a_text_is_refused(build, inputs_of):
    """The bound of the positions is within the graph: a longer text does not read past their table."""
    model = build("encoder")
    sample = inputs_of("encoder", 2, 6, 0)
    program = export(model, (), sample, dynamic_shapes=shapes_of(sample, bounded=True)).module()
    with pytest.raises((AssertionError, RuntimeError), match="37"):
        program(**inputs_of("encoder", 2, 38, 0))


@pytest.mark.parametrize("strict", [False, True], ids=["traced", "strict"])
@pytest.mark.parametrize("options", [{"jitter": 0.2}, {"jitter": 0.3} | GPT2], ids=["paper", "gpt2"])
def test_a_decoder_with_static_cache_generates(build, tokens, options, strict):
    """The module that ExecuTorch takes: the cache is part of it, and prompts of any length go through one graph."""
    model = build("decoder", eos_token_id=None, **options)
    prompts = [tokens(1, 5, seed=5), tokens(1, 9, seed=9)]
    expected = [model.generate(p, attention_mask=torch.ones_like(p), max_new_tokens=12) for p in prompts]
    assert len(set(expected[0][0, 5:].tolist())) > 2
    model.generation_config.cache_implementation = "static"
    length = Dim("length", max=32)
    with torch.no_grad():
        program = (
            executorch.TorchExportableModuleForDecoderOnlyLM(model, batch_size=1, max_cache_len=32)
            .export(
                input_ids=tokens(1, 3),
                cache_position=torch.arange(3),
                dynamic_shapes={"input_ids": {1: length}, "cache_position": {0: length}},
                strict=strict,
            )
            .module()
        )
        for prompt, row in zip(prompts, expected, strict=True):
            ids, start = prompt, 0
            while ids.shape[1] < row.shape[1]:
                places = torch.arange(start, ids.shape[1])
                logits = program(input_ids=ids[:, start:], cache_position=places)
                start = ids.shape[1]
                ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
            assert ids.tolist() == row.tolist()


def test_a_translator_for_executorch(build, tokens):
    """Encoder and decoder apart, the decoder with a static cache; the graphs give what `generate` gives."""
    model = build("encoder-decoder", jitter=0.2, eos_token_id=None)
    source = tokens(1, 6, seed=1)
    expected = model.generate(source, attention_mask=torch.ones_like(source), max_new_tokens=8)
    assert len(set(expected[0].tolist())) > 2
    model.generation_config.cache_implementation = "static"
    with torch.no_grad():
        module = executorch.Seq2SeqLMExportableModule(model, 1, max_hidden_seq_length=32, max_cache_length=16)
        module.export(encoder_input_ids=tokens(1, 4), encoder_hidden_states=torch.randn(1, 4, 24))
        memory = module.exported_encoder.module()(source)
        decode = module.exported_decoder.module()
        ids = torch.full((1, 1), model.config.decoder_start_token_id)
        for place in range(8):
            logits = decode(ids[:, -1:], memory, torch.tensor([place]))
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    assert ids.tolist() == expected.tolist()


def test_a_cache_that_grows(build, tokens):
    """A traced cache has a length that is neither a number nor a tensor: one graph serves any past and any step."""
    executorch.register_dynamic_cache_export_support()
    model = build("decoder")

    @torch.no_grad()
    def step_of(rows: int, past: int, new: int) -> tuple[dict, torch.Tensor]:
        """Return inputs whose first `past` tokens are in the cache, and the logits of the rest."""
        ids = tokens(rows, past + new, seed=past)
        mask = torch.ones_like(ids)
        mask[0, :2] = 0
        cache = DynamicCache(config=model.config)
        model(ids[:, :past], attention_mask=mask[:, :past], cache=cache)
        expected = model(ids, attention_mask=mask).logits[:, past:]
        return {"input_ids": ids[:, past:], "attention_mask": mask, CACHE: cache}, expected

    sample, _ = step_of(2, 5, 3)
    both = {0: Dim.AUTO, 1: Dim.AUTO}
    cache = {0: Dim.AUTO, 2: Dim.AUTO}
    axes = {"input_ids": both, "attention_mask": both, CACHE: [[cache, cache], [cache, cache]]}
    program = export(model, (), sample, dynamic_shapes=axes, strict=False).module()
    for sizes in [(2, 5, 3), (3, 8, 2), (4, 11, 5)]:
        inputs, expected = step_of(*sizes)
        with torch.no_grad():
            torch.testing.assert_close(program(**inputs).logits, expected, atol=1e-5, rtol=0)
