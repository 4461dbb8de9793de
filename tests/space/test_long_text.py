# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A text is measured in characters before it is cut into tokens: 5 MB would stop the page for everybody."""

import importlib.util
from pathlib import Path

import pytest

SPACE = Path(__file__).resolve().parents[2] / "space"


class Untouched:
    """An encoder that must not see a text."""

    def encode(self, text):
        raise AssertionError(f"{len(text)} characters were to be cut into tokens")


@pytest.fixture
def model(monkeypatch):
    """Return the page's model without weights, and the module that it is from."""
    monkeypatch.syspath_prepend(SPACE)
    specification = importlib.util.spec_from_file_location("space_model", SPACE / "model.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    model = module.Model.__new__(module.Model)
    model.kind, model.limit, model._encoder = "translate", 48, Untouched()
    return model, module


@pytest.mark.parametrize("text", ["a" * 5_000_000, " " * 5_000_000 + "a", "a" * (32 * 48 + 1)], ids=len)
def test_a_text_of_megabytes_is_refused_before_it_is_cut_into_tokens(model, text):
    with pytest.raises(
        model[1].Refused, match=r"characters, and this model reads 48 tokens, here 1,536 characters at most"
    ):
        model[0].encode(text)


def test_a_text_that_may_fit_is_cut_into_tokens(model):
    with pytest.raises(AssertionError, match="1536 characters"):
        model[0].encode("a" * (32 * 48))
