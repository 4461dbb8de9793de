# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Models with random weights for the tests of look/."""

from collections.abc import Callable

import pytest
from small_models import BUILD
from transformers import PreTrainedModel

from modeling_vanilla.look.search import Recorder


@pytest.fixture
def model_of(randomise) -> Callable[..., PreTrainedModel]:
    """Return a function that builds a model of `small_models.BUILD` by its name, with random weights."""

    def make(name: str, std: float = 0.4) -> PreTrainedModel:
        return randomise(BUILD[name](), std=std)

    return make


@pytest.fixture
def by_hand():
    """Two beams. "ab." ends with -3 (-1 a token), "a." with -2 (-1 a token, behind by a hair), "c" is dropped."""
    recorder = Recorder(2, 1.0)
    a = recorder.add(None, "a", -1.0)
    recorder.add(None, "c", -4.0)
    b = recorder.add(a, "b", -1.5)
    short = recorder.add(a, ".", -2.01)
    recorder.end(short)
    long = recorder.add(b, ".", -3.0)
    recorder.end(long)
    worst = recorder.add(b, "!", -9.0)
    recorder.end(worst)
    return recorder
