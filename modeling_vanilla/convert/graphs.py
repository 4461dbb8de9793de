# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""These models as ONNX graphs, in the parts and with the names that transformers.js and Optimum give them.

An encoder is one graph, `model`. So is a decoder, with the keys and values of the tokens before as inputs and outputs: none
at first. A translator has two, `encoder_model` and `decoder_model_merged`; the second also gives where each layer looked in the
source, `cross_attentions.LAYER` (B, H, T, S), which transformers.js hands out with `output_attentions`.
Dimension letters: B batch, S source length, T target length, P tokens before, D d_model, H heads, K head_dim, V vocabulary.
"""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from ..base import VanillaPreTrainedModel
from ..cache_name import as_installed
from ..configuration_vanilla import VanillaConfig

# What the graph of an encoder gives.
OUTPUTS = {
    "VanillaForMaskedLM": "logits",
    "VanillaForSequenceClassification": "logits",
    "VanillaModel": "last_hidden_state",
}
CACHED = ("VanillaForCausalLM", "VanillaForConditionalGeneration")


def check(model: VanillaPreTrainedModel) -> None:
    """See that graphs can hold a model.

    Raises:
        ValueError: It has another head, or an option that they cannot hold: each is named with its value.
    """
    name = type(model).__name__
    config = model.config
    if name not in CACHED and (config.variant != "encoder" or name not in OUTPUTS):
        known = ", ".join([*CACHED, *(f"{one} of an encoder" for one in OUTPUTS)])
        raise ValueError(f"{name} of variant={config.variant!r} has no graph; one of {known}")
    if config.attention_window is not None:
        raise ValueError(f"attention_window={config.attention_window} must be None: a graph has no cache in chunks")
    if name in CACHED and config.type_vocab_size:
        raise ValueError(f"type_vocab_size={config.type_vocab_size} must be 0 for a model that writes")
    if name in CACHED and config.v_head_dim != config.head_dim:
        raise ValueError(
            f"v_head_dim={config.v_head_dim} must be head_dim={config.head_dim}: transformers.js makes keys and values "
            "of one width"
        )


def write_graphs(model: VanillaPreTrainedModel, folder: Path) -> list[Path]:
    """Write the graphs of a model to a folder, in fp32, and return their files.

    Raises:
        ValueError: See `check`; or a package that the export needs is not installed.
    """
    check(model)
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{error}; pip install onnx onnxscript") from error
    write: dict[str, Callable[[Any, Path], list[Path]]] = {CACHED[0]: _writer, CACHED[1]: _translator}
    folder.mkdir(parents=True, exist_ok=True)
    teller = logging.getLogger("torch.onnx")
    level = teller.level
    teller.setLevel(logging.ERROR)  # it tells which packages for images it does without
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return write.get(type(model).__name__, _reader)(model, folder)
    finally:
        teller.setLevel(level)


class _Reader(nn.Module):
    """An encoder with or without a head, called by position."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        inputs = {"attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        return self.model(input_ids, **inputs)[_output_of(self.model)]


class _Writer(nn.Module):
    """A decoder with its cache as tensors: 2 L of (B, H, P, K)."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids, past):
        cache = _cache_of(past)
        inputs = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": True}
        out = self.model(input_ids, **inputs, **as_installed(cache))
        return (out.logits, *_tensors_of(cache))


class _TranslatorsDecoder(nn.Module):
    """The decoder of a translator with its cache as tensors; what it reads of the source is computed at each step."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, input_ids, encoder_attention_mask, encoder_hidden_states, past):
        cache = _cache_of(past)
        inputs = {"encoder_hidden_states": encoder_hidden_states, "encoder_attention_mask": encoder_attention_mask}
        both = as_installed(EncoderDecoderCache(cache, DynamicCache()))
        out = self.model.model.decoder(input_ids, **inputs, **both, use_cache=True, output_attentions=True)
        return (self.model.lm_head(out.last_hidden_state), *_tensors_of(cache), *out.cross_attentions)


def _cache_of(past: list[torch.Tensor]) -> DynamicCache:
    cache = DynamicCache()
    for index, (keys, values) in enumerate(zip(past[::2], past[1::2], strict=True)):
        cache.update(keys, values, index)
    return cache


def _tensors_of(cache: DynamicCache) -> list[torch.Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def _ids(config: VanillaConfig, *shape: int) -> torch.Tensor:
    return torch.arange(shape[0] * shape[1]).view(shape) % config.vocab_size


def _past(config: VanillaConfig, layers: int) -> list[torch.Tensor]:
    """Return keys and values (2, H, 3, K) of three tokens before."""
    return [torch.randn(2, config.num_heads, 3, config.head_dim) for _ in range(2 * layers)]


def _export(graph: nn.Module, path: Path, inputs: tuple, names: list[str], outputs: list[str], axes: tuple) -> Path:
    """Write one graph, its weights in the same file."""
    import onnx

    program = torch.onnx.export(
        graph.eval(),
        inputs,
        dynamo=True,
        verbose=False,
        input_names=names,
        output_names=outputs,
        dynamic_shapes=axes,
    )
    assert program is not None
    # Not `program.save`, which asks a module that loads late for its `save`: nnsight gives every object a `save` of its own.
    onnx.save(program.model_proto, path)
    return path


def _reader(model: Any, folder: Path, file: str = "model.onnx") -> list[Path]:
    config = model.config
    ids, axes = _ids(config, 2, 5), {0: Dim("batch_size"), 1: Dim("length", max=config.max_position_embeddings)}
    names, inputs = ["input_ids", "attention_mask"], [ids, torch.ones_like(ids)]
    if config.type_vocab_size:
        names, inputs = [*names, "token_type_ids"], [*inputs, torch.zeros_like(ids)]
    shapes = (axes,) * len(inputs)
    return [_export(_Reader(model), folder / file, tuple(inputs), names, [_output_of(model)], shapes)]


def _output_of(model: Any) -> str:
    return OUTPUTS.get(type(model).__name__, "last_hidden_state")


def _writer(model: Any, folder: Path) -> list[Path]:
    config, most = model.config, model.config.max_position_embeddings
    rows, new, before = Dim("batch_size"), Dim("length", max=most), Dim("past", min=0, max=most - 1)
    places = torch.arange(3, 7)[None].repeat(2, 1)
    past = _past(config, config.num_layers)
    inputs = (_ids(config, 2, 4), torch.ones(2, 7, dtype=torch.long), places, past)
    names = [f"{index}.{kind}" for index in range(config.num_layers) for kind in ("key", "value")]
    axes = ({0: rows, 1: new}, {0: rows, 1: Dim.DYNAMIC}, {0: rows, 1: new}, [{0: rows, 2: before}] * len(past))
    return [_export(_Writer(model), folder / "model.onnx", inputs, *_named(names, WRITER), axes)]


def _translator(model: Any, folder: Path) -> list[Path]:
    config = model.config
    rows, source, before = Dim("batch_size"), Dim("source"), Dim("past", min=0)
    past = _past(config, config.num_decoder_layers)
    memory = torch.randn(2, 5, config.d_model)
    inputs = (_ids(config, 2, 4), torch.ones(2, 5, dtype=torch.long), memory, past)
    names = [f"{index}.decoder.{kind}" for index in range(config.num_decoder_layers) for kind in ("key", "value")]
    axes = (
        {0: rows, 1: Dim("target")},
        {0: rows, 1: source},
        {0: rows, 1: source},
        [{0: rows, 2: before}] * len(past),
    )
    inputs_named, outputs = _named(names, TRANSLATOR)
    outputs += [f"cross_attentions.{index}" for index in range(config.num_decoder_layers)]
    decoder = folder / "decoder_model_merged.onnx"
    kernel = config._attn_implementation
    model.set_attn_implementation("eager")  # the one that keeps its weights
    try:
        return [
            *_reader(model.get_encoder(), folder, "encoder_model.onnx"),
            _export(_TranslatorsDecoder(model), decoder, inputs, inputs_named, outputs, axes),
        ]
    finally:
        model.set_attn_implementation(kernel)


WRITER = ["input_ids", "attention_mask", "position_ids"]
TRANSLATOR = ["input_ids", "encoder_attention_mask", "encoder_hidden_states"]


def _named(names: list[str], inputs: list[str]) -> tuple[list[str], list[str]]:
    """Return the names of inputs and outputs, those of the cache by layer."""
    return [*inputs, *(f"past_key_values.{n}" for n in names)], ["logits", *(f"present.{n}" for n in names)]
