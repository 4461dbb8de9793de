# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Models with random weights for the tests of look/."""

from collections.abc import Callable

import pytest
from small_models import BUILD
from transformers import PreTrainedModel


@pytest.fixture
def model_of(randomise) -> Callable[..., PreTrainedModel]:
    """Return a function that builds a model of `small_models.BUILD` by its name, with random weights."""

    def make(name: str, std: float = 0.4) -> PreTrainedModel:
        return randomise(BUILD[name](), std=std)

    return make
