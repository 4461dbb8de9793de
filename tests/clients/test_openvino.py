# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""OpenVINO runs the graphs that `convert --to onnx` writes: the same numbers, for any batch and length."""

import sys

import numpy
import pytest
import torch

from modeling_vanilla.convert.graphs import write_graphs

sys.modules.setdefault("openvino_telemetry", None)  # else the import of openvino tells its makers of it
openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxscript")

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
SIZES = ((2, 5, 3), (3, 9, 7), (1, 1, 1))  # (B, S, T); the first is about that of the sample that made the graph


def compiled(path):
    """Return a graph as a function of numpy arrays, with names. On some CPUs OpenVINO would compute in bf16."""
    return openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def padded(ids: torch.Tensor) -> torch.Tensor:
    """Return an attention mask, the end of the last row padding if there is more than one."""
    mask = torch.ones_like(ids)
    if len(ids) > 1:
        mask[-1, -2:] = 0
    return mask


def no_past(graph, config, rows: int) -> dict[str, numpy.ndarray]:
    """Return the empty keys and values (B, H, 0, K) that a graph with a cache asks for."""
    names = [name for one in graph.inputs for name in one.names if name.startswith("past_key_values")]
    return {name: numpy.zeros((rows, config.num_heads, 0, config.head_dim), numpy.float32) for name in names}


@torch.no_grad()
def test_encoder(build, tokens, tmp_path):
    model = build("encoder", num_layers=1)
    graph = compiled(*write_graphs(model, tmp_path))
    for seed, (rows, length, _) in enumerate(SIZES):
        ids = tokens(rows, length, seed)
        inputs = {"input_ids": ids, "attention_mask": padded(ids)}
        (logits,) = graph({name: value.numpy() for name, value in inputs.items()}).values()
        torch.testing.assert_close(torch.from_numpy(logits), model(**inputs).logits, **CLOSE)


@torch.no_grad()
def test_decoder_with_its_cache(build, tokens, tmp_path):
    model = build("decoder", num_layers=1)
    graph = compiled(*write_graphs(model, tmp_path))
    for seed, (rows, length, more) in enumerate(SIZES):
        ids = tokens(rows, length + more, seed)
        mask, places = torch.ones_like(ids), torch.arange(length + more).expand_as(ids)
        past, steps = no_past(graph, model.config, rows), []
        for start, end in ((0, length), (length, length + more)):
            inputs = {
                "input_ids": ids[:, start:end],
                "attention_mask": mask[:, :end],
                "position_ids": places[:, start:end],
            }
            out = graph({name: value.numpy() for name, value in inputs.items()} | past)
            steps.append(torch.from_numpy(out["logits"]))
            past = {name: out[name.replace("past_key_values", "present")] for name in past}
        torch.testing.assert_close(torch.cat(steps, dim=1), model(ids).logits, **CLOSE)


@pytest.mark.slow
@torch.no_grad()
def test_translator(build, tokens, tmp_path):
    model = build("encoder-decoder", num_layers=1)
    graphs = {path.stem: compiled(path) for path in write_graphs(model, tmp_path)}
    encoder, decoder = graphs["encoder_model"], graphs["decoder_model_merged"]
    for seed, (rows, source, target) in enumerate(SIZES):
        ids, written = tokens(rows, source, seed), tokens(rows, target, seed + 5)
        mask = padded(ids)
        memory = encoder({"input_ids": ids.numpy(), "attention_mask": mask.numpy()})["last_hidden_state"]
        out = decoder(
            {
                "input_ids": written.numpy(),
                "encoder_attention_mask": mask.numpy(),
                "encoder_hidden_states": memory,
                **no_past(decoder, model.config, rows),
            }
        )
        expected = model(ids, attention_mask=mask, decoder_input_ids=written).logits
        torch.testing.assert_close(torch.from_numpy(out["logits"]), expected, **CLOSE)
