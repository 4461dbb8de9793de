# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Exported to ONNX and run by onnxruntime, models give the numbers and the texts that they give in torch."""

import inspect

import pytest
import torch

from modeling_vanilla import (
    VanillaForMultipleChoice,
    VanillaForQuestionAnswering,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
    VanillaModel,
)
from modeling_vanilla.cache_name import CACHE

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
exporters = pytest.importorskip("transformers.exporters", reason="this transformers has no exporters")
if not hasattr(exporters, "ExportedModel"):
    pytest.skip("the exporters of this transformers give no ExportedModel that can be run", allow_module_level=True)

VARIANTS = ("encoder-decoder", "encoder", "decoder")
QUICK = (  # each export takes seconds
    ("encoder", VanillaForSequenceClassification),
    ("encoder", VanillaForQuestionAnswering),
)
HEADS = [
    pytest.param(variant, head, marks=() if (variant, head) in QUICK else pytest.mark.slow)
    for variant in VARIANTS
    for head in (
        VanillaForSequenceClassification,
        VanillaForQuestionAnswering,
        VanillaForTokenClassification,
        VanillaForMultipleChoice,
        VanillaModel,
    )
]


def export(model, inputs):
    """Export a model so that every axis of its inputs may change."""
    return exporters.OnnxExporter().export(model, inputs, exporters.OnnxConfig(dynamic=True))


def export_for_generation(model, inputs):
    """Export both steps of `generate`. Only so does the graph of the second one take a cache of any length."""
    config = exporters.OnnxConfig(dynamic=True)
    return exporters.OnnxExporter().export_for_generation(model, inputs, config, multi_token_decode=True)


def padded(ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return ids (..., T) with padding on the left of the first row and on the right of the last, if there are two."""
    mask = torch.ones_like(ids)
    if len(ids) > 1:
        mask[0, ..., :2] = 0
        mask[-1, ..., -1:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def inputs_of(model, tokens, rows: int, length: int, target: int, seed: int) -> dict[str, torch.Tensor]:
    """Return inputs for any head: (rows, length), several choices for a multiple choice, a target where one is read."""
    if isinstance(model, VanillaForMultipleChoice):
        return padded(tokens(rows * 3, length, seed).view(rows, 3, length))
    inputs = padded(tokens(rows, length, seed))
    if model.config.is_encoder_decoder and "decoder_input_ids" in inspect.signature(model.forward).parameters:
        inputs["decoder_input_ids"] = tokens(rows, target, seed + 1)
    return inputs


def assert_same_numbers(model, tokens):
    """Export on 2 rows of 6 tokens (target: 4); compare every tensor that comes out, for those and other sizes."""
    exported = export(model, inputs_of(model, tokens, 2, 6, 4, seed=0))
    for seed, (rows, length, target) in enumerate([(2, 6, 4), (3, 9, 7), (5, 4, 11), (1, 1, 1)]):
        inputs = inputs_of(model, tokens, rows, length, target, seed)
        got = exported(**inputs)
        with torch.no_grad():
            expected = model(**inputs)
        compared = [name for name, value in expected.items() if torch.is_tensor(value)]
        assert compared
        for name in compared:
            assert got[name].shape == expected[name].shape
            torch.testing.assert_close(got[name], expected[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_language_models(build, tokens, variant):
    assert_same_numbers(build(variant), tokens)


@pytest.mark.parametrize(("variant", "head"), HEADS)
def test_heads(build, tokens, variant, head):
    assert_same_numbers(build(variant, head, num_labels=3), tokens)


@pytest.mark.slow
def test_a_pre_norm_model_with_types_learned_positions_and_window(build, tokens):
    model = build("encoder", norm_order="pre", positions="learned", type_vocab_size=2, attention_window=3)
    sample = padded(tokens(2, 6))
    exported = export(model, sample | {"token_type_ids": torch.ones_like(sample["input_ids"])})
    inputs = padded(tokens(3, 9))
    inputs["token_type_ids"] = tokens(3, 9, seed=1) % 2
    with torch.no_grad():
        torch.testing.assert_close(exported(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=0)


def test_saved_and_loaded(build, tokens, tmp_path):
    model = build("encoder")
    export(model, padded(tokens(2, 6))).save_pretrained(tmp_path)
    inputs = padded(tokens(3, 8))
    with torch.no_grad():
        expected = model(**inputs).logits
    got = exporters.ExportedModel.from_pretrained(tmp_path)(**inputs).logits
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    # The file needs neither transformers nor torch to run.
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=0)


def generate(model, inputs: dict[str, torch.Tensor], steps: int) -> list[list[int]]:
    """Let `generate` search greedily, no token twice: small random models repeat one, which says nothing of a cache."""
    rows = model.generate(**inputs, max_new_tokens=steps, do_sample=False, no_repeat_ngram_size=1).tolist()
    assert len({tuple(row[-steps:]) for row in rows}) == len(rows), "all rows alike prove nothing"
    return rows


def best_unseen(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the best token (B, 1) by the last of logits (B, T, V) that is not yet in ids (B, T)."""
    return logits[:, -1].scatter(1, ids, -torch.inf).argmax(-1, keepdim=True)


def test_a_decoder_generates(build, tokens, tmp_path):
    """Greedy search over the file: one graph takes the cache, empty at first, and gives it back longer."""
    model = build("decoder", eos_token_id=None)
    prompt = {"input_ids": tokens(3, 5), "attention_mask": torch.ones(3, 5, dtype=torch.long)}
    prompt["attention_mask"][0, :2] = 0
    expected = generate(model, prompt, steps=12)

    export_for_generation(model, padded(tokens(2, 4))).save_pretrained(tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "decode.onnx")
    outputs = [output.name for output in session.get_outputs()]
    cache = {i.name: torch.zeros(3, 4, 0, 5).numpy() for i in session.get_inputs() if CACHE in i.name}
    assert len(cache) == 2 * 2  # keys and values of two layers
    rows, mask = prompt["input_ids"], prompt["attention_mask"]
    new = rows
    for _ in range(12):
        places = (mask.cumsum(-1) - 1).clamp(min=0)[:, -new.shape[1] :]
        feed = {"input_ids": new, "attention_mask": mask, "position_ids": places}
        out = session.run(None, {name: value.numpy() for name, value in feed.items()} | cache)
        out = dict(zip(outputs, out, strict=True))
        cache = {name: out[name.replace("input.", "output.")] for name in cache}
        new = best_unseen(torch.from_numpy(out["logits"]), rows)
        rows = torch.cat([rows, new], dim=1)
        mask = torch.cat([mask, torch.ones_like(new)], dim=1)
    assert rows.tolist() == expected


def test_a_translator_generates(build, tokens):
    """Three graphs: the encoder, the first step of the decoder, and every further step with the cache."""
    model = build("encoder-decoder", eos_token_id=None)
    source = padded(tokens(3, 7))
    expected = generate(model, source, steps=12)

    sample = padded(tokens(2, 5))
    encoder = export(model.get_encoder(), sample)
    decoder = export_for_generation(model, sample)
    rows = torch.full((3, 1), model.config.decoder_start_token_id)
    step = {"encoder_outputs": encoder(**source), "attention_mask": source["attention_mask"]}
    for number in range(12):
        out = decoder.runners["decode" if number else "prefill"](decoder_input_ids=rows[:, -1:], **step)
        step[CACHE] = out[CACHE]
        rows = torch.cat([rows, best_unseen(out.logits, rows)], dim=1)
    assert rows.tolist() == expected
