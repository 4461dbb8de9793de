# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The entry point leads to the function, and the function registers every class that vLLM can run, once."""

import importlib
import sys
import types
from pathlib import Path

import modeling_vanilla

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]


def test_the_entry_point_registers_the_models(monkeypatch):
    registered = {}

    def register_model(name: str, model: str) -> None:
        assert name not in registered
        registered[name] = model

    registry = types.SimpleNamespace(get_supported_archs=registered.keys, register_model=register_model)
    monkeypatch.setitem(sys.modules, "vllm", types.SimpleNamespace(ModelRegistry=registry))
    points = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    module, name = points["vllm.general_plugins"]["modeling_vanilla"].split(":")
    for _ in range(2):
        getattr(importlib.import_module(module), name)()
    assert all(hasattr(modeling_vanilla, ours) for ours in registered)
    assert registered["VanillaForCausalLM"] == "vllm.model_executor.models.transformers:TransformersForCausalLM"
    assert len(registered) == 3
