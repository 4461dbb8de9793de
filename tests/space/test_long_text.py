# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What a visitor sends is measured before it is read: a text in characters before tokens, a request in bytes before both."""

import asyncio
import importlib.util
import os
import sys
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


@pytest.fixture
def bounded(monkeypatch):
    """Return what bounds the requests of the page."""
    monkeypatch.syspath_prepend(SPACE)
    for name in ("app", "model", "picture"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return pytest.importorskip("app")


def ask(module, bodies: list[bytes], **headers: str):
    """Send a request to the page's bounds; return the status, and the bytes that got through."""
    sent, got, waiting = [], [], list(bodies)

    async def receive():
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message):
        sent.append(message.get("status"))

    async def page(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            got.append(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200})

    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(module.Bounded(page)(scope, receive, send))
    return sent[0], sum(map(len, got))


def test_a_request_without_end_is_not_read(bounded):
    most = bounded.MOST_BYTES
    assert ask(bounded, [b"x" * most], **{"content-length": str(most)}) == (200, most)
    assert ask(bounded, [b"x"], **{"content-length": str(most + 1)}) == (413, 0)
    half = b"x" * (most // 2)
    assert ask(bounded, [half, half, half, half])[1] == most
