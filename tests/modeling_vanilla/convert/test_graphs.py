# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The graphs give the numbers of torch, for any rows, lengths and caches; what they cannot hold is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import tokenizer as tokenizers
from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForMaskedLM,
    VanillaForSequenceClassification,
    VanillaModel,
)
from modeling_vanilla.__main__ import main
from modeling_vanilla.convert import graphs

# Keys of another width than d_model / heads, and every way in which a stack can be built.
OPTIONS = {"norm_order": "pre", "positions": "learned", "tie_word_embeddings": False, "jitter": 0.3}


@pytest.mark.parametrize(
    ("variant", "model_class", "options", "message"),
    [
        ("decoder", VanillaForCausalLM, {"attention_window": 3}, "attention_window=3 must be None"),
        ("encoder-decoder", None, {"v_head_dim": 7}, "v_head_dim=7 must be head_dim=5"),
        ("decoder", VanillaForCausalLM, {"type_vocab_size": 2}, "type_vocab_size=2 must be 0"),
        ("decoder", VanillaModel, {}, "VanillaModel of variant='decoder' has no graph"),
        ("decoder", VanillaForSequenceClassification, {}, "variant='decoder' has no graph"),
    ],
)
def test_what_no_graph_can_hold(build, tmp_path, capsys, variant, model_class, options, message):
    model = build(variant, model_class, **options)
    with pytest.raises(ValueError, match=message):
        graphs.check(model)
    model.save_pretrained(tmp_path / "ours")
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "new"), "--to", "js"]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "new").exists()


@pytest.fixture
def convert(tmp_path):
    """Return a function that saves a model and a tokenizer, and makes graphs of the folder."""
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    onnxruntime = pytest.importorskip("onnxruntime")

    def function(model) -> tuple[Path, dict]:
        model.save_pretrained(tmp_path / "ours")
        words = tokenizers.build("char", ["abc"], 31, "encoder", min_frequency=1, show_progress=False)
        words.save_pretrained(tmp_path / "ours")
        assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "new"), "--to", "onnx"]) == 0
        paths = sorted((tmp_path / "new").glob("*.onnx"))
        return tmp_path / "new", {path.stem: onnxruntime.InferenceSession(path) for path in paths}

    return function


def run(session, **inputs) -> list[torch.Tensor]:
    """Run a graph on tensors; a cache comes as a list, an empty one where it is left out."""
    past = inputs.pop("past", None)
    names = [one.name for one in session.get_inputs() if one.name.startswith("past_key_values.")]
    heads, width = (session.get_inputs()[-1].shape[axis] for axis in (1, 3)) if names else (0, 0)
    past = past or [torch.zeros(len(next(iter(inputs.values()))), heads, 0, width)] * len(names)
    feeds = inputs | dict(zip(names, past, strict=True))
    return [torch.tensor(out) for out in session.run(None, {name: np.asarray(one) for name, one in feeds.items()})]


@torch.no_grad()
def test_a_translator(build, tokens, convert):
    model = build("encoder-decoder", lm_head_bias=True, num_layers=1, num_decoder_layers=2, **OPTIONS)
    folder, sessions = convert(model)
    model.set_attn_implementation("eager")
    assert VanillaConfig.from_pretrained(folder).head_dim == 5
    assert AutoTokenizer.from_pretrained(folder)("abc")["input_ids"]
    for rows, source, target in ((2, 6, 4), (3, 9, 7), (1, 1, 2)):
        ids, written = tokens(rows, source, seed=rows), tokens(rows, target, seed=9)
        mask = torch.ones_like(ids)
        mask[0, source // 2 + 1 :] = 0
        out = model(ids, attention_mask=mask, decoder_input_ids=written, output_attentions=True)
        expected, crossed = out.logits, torch.stack(out.cross_attentions)  # (L, B, H, T, S)
        (memory,) = run(sessions["encoder_model"], input_ids=ids, attention_mask=mask)
        decoder, read = (
            sessions["decoder_model_merged"],
            dict(encoder_attention_mask=mask, encoder_hidden_states=memory),
        )
        logits, *_, lower, upper = run(decoder, input_ids=written, **read)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.stack([lower, upper]), crossed, atol=1e-4, rtol=0)
        first, *past, _, _ = run(decoder, input_ids=written[:, :1], **read)
        rest, *_, upper = run(decoder, input_ids=written[:, 1:], past=past, **read)
        torch.testing.assert_close(torch.cat([first, rest], 1), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(upper, crossed[1, :, :, 1:], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_writer_with_padding_on_the_left(build, tokens, convert):
    model = build("decoder", **OPTIONS)
    _, sessions = convert(model)
    ids, mask = tokens(2, 6), torch.ones(2, 6, dtype=torch.long)
    mask[0, :2] = 0
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = model(ids, attention_mask=mask).logits
    first, *past = run(sessions["model"], input_ids=ids[:, :4], attention_mask=mask[:, :4], position_ids=places[:, :4])
    rest, *_ = run(sessions["model"], input_ids=ids[:, 4:], attention_mask=mask, position_ids=places[:, 4:], past=past)
    got = torch.cat([first, rest], 1)
    torch.testing.assert_close(got[mask == 1], expected[mask == 1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_reader_with_segments(build, tokens, convert):
    model = build("encoder", VanillaForMaskedLM, type_vocab_size=2, **OPTIONS)
    _, sessions = convert(model)
    for rows, length in ((2, 5), (3, 9), (1, 1)):
        ids = tokens(rows, length, seed=rows)
        inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=ids % 2)
        (logits,) = run(sessions["model"], **inputs)
        torch.testing.assert_close(logits, model(**inputs).logits, atol=1e-4, rtol=1e-4)
