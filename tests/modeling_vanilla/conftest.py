# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Tools of the parity tests: random weights everywhere, weights renamed from another implementation, same output."""

import re

import pytest
import torch
from patients import HEADS
from torch import nn
from transformers import GenerationConfig

from modeling_vanilla.doctor import Subject


def _randomise(model: nn.Module, seed: int = 0, std: float = 0.2) -> nn.Module:
    """Draw every trained parameter anew: biases are not 0, norms not 1, so that no swap or omission can hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad:  # not Marian's sinusoid table
                    mean = 1.0 if isinstance(module, nn.LayerNorm) and name == "weight" else 0.0
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * std + mean)
    return model.eval()


def _rename(state: dict[str, torch.Tensor], rules: list[tuple[str, str | None]]) -> dict[str, torch.Tensor]:
    """Rename the keys of a state dict: all rules in turn; None drops the key."""
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            if replacement is None and re.search(pattern, key):
                break
            key = re.sub(pattern, replacement or "", key)
        else:
            assert key not in renamed, f"two weights for {key}"
            renamed[key] = value.clone()
    return renamed


def _assert_same_generation(ours, theirs, inputs: dict[str, torch.Tensor], **settings) -> None:
    """Compare the ids of greedy and of beam search, which must end rows at different places to prove anything.

    Small random models repeat one token for ever; forbidding that makes each step pick from another ranking.
    """
    for beams in (1, 4):
        config = GenerationConfig(num_beams=beams, do_sample=False, no_repeat_ngram_size=1, **settings)
        got = ours.generate(**inputs, generation_config=config)
        expected = theirs.generate(**inputs, generation_config=config)
        assert got.tolist() == expected.tolist()
        assert len({tuple(row) for row in got.tolist()}) == got.shape[0], "all rows alike prove nothing"


def _assert_varied(logits: torch.Tensor) -> None:
    """See that logits (N, V) depend on the place: a model that says the same everywhere hides its errors."""
    assert logits.std(0).mean() > 0.2


@pytest.fixture(autouse=True)
def fixed_seed():
    """Start every test from the same random numbers, alone or among others."""
    torch.manual_seed(0)


@pytest.fixture
def randomise():
    """Return a function that fills every parameter with random numbers."""
    return _randomise


@pytest.fixture
def rename():
    """Return a function that renames a state dict by (pattern, replacement) rules."""
    return _rename


@pytest.fixture
def assert_same_generation():
    """Return a function that compares greedy and beam output of two models."""
    return _assert_same_generation


@pytest.fixture
def assert_varied():
    """Return a function that fails for logits that are the same everywhere."""
    return _assert_varied


@pytest.fixture
def subject(build):
    """Return a factory of subjects around small models with random weights."""

    def make(variant: str, model=None, **options) -> Subject:
        return Subject(model or build(variant, jitter=0.2, **options), HEADS[variant])

    return make
