# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The page that runs in the browser alone: what it writes, and where it says the model looked, are what Python computes.

It is served from a folder, and whatever it asks of another host is refused. `make js-page` makes the folder,
MODELING_VANILLA_PAGE names another; without one these tests skip. Letters: L layers, H heads, T rows, S columns.
"""

import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from modeling_vanilla import VanillaForConditionalGeneration

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path(os.environ.get("MODELING_VANILLA_PAGE", ROOT / "build" / "js-page"))
MODEL = Path(os.environ.get("MODELING_VANILLA_PAGE_MODEL", ROOT / "runs" / "dates-en-ko" / "final"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TEXTS = ["Friday, November 20, 2026", "the 3rd of May, 1999", "24-Jun-1986"]
SEEN = """async (text) => {
  const { translate } = await import("./page.js");
  const { weights, ...rest } = await translate(text);
  return { ...rest, weights: [...weights] };
}"""

pytestmark = [
    pytest.mark.skipif(not (PAGE / "page.js").is_file(), reason=f"`make js-page` makes the page in {PAGE}"),
    pytest.mark.skipif(not MODEL.is_dir(), reason=f"no model in {MODEL}: `make demo`"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]


class Files(SimpleHTTPRequestHandler):
    """The files of a folder, without a line for each."""

    def log_message(self, *_) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address():
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=PAGE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module", params=["en-US", "ko-KR"])
def page(request, address):
    """Return the page in a browser of a language; at the end it may have complained of nothing, and asked no other host."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    complaints = []

    def refuse(route):
        complaints.append(f"leaves the machine: {route.request.url}")
        route.abort()

    with sync_api.sync_playwright() as driver:
        words = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=words)
        page = browser.new_page(locale=request.param, viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.route(lambda url: not url.startswith((address, "data:", "blob:")), refuse)
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        yield page
        browser.close()
    assert complaints == []


@pytest.fixture(scope="module")
def model():
    return VanillaForConditionalGeneration.from_pretrained(MODEL, attn_implementation="eager").eval()


@torch.no_grad()
def expected(model, text: str) -> tuple[str, torch.Tensor]:
    """Return what eager attention computes: the translation, and the weights (L, H, T, S) of one pass over it."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    inputs = tokenizer(text, return_tensors="pt")
    ids = model.generate(**inputs, num_beams=1, do_sample=False)
    out = model(**inputs, decoder_input_ids=ids[:, :-1], output_attentions=True)
    return tokenizer.decode(ids[0], skip_special_tokens=True), torch.cat(out.cross_attentions)


def ask(page, text: str) -> None:
    page.fill("#text", text)
    page.click("#run")
    page.wait_for_selector("#run:not([disabled])")


@pytest.mark.parametrize("text", TEXTS)
def test_the_browser_computes_what_python_computes(page, model, text):
    translation, weights = expected(model, text)
    seen = page.evaluate(SEEN, text)
    assert seen["translation"] == translation
    assert seen["shape"] == list(weights.shape)
    found = torch.tensor(seen["weights"]).view(weights.shape)
    print(f"largest difference of attention: {float((found - weights).abs().max()):.1e}")
    torch.testing.assert_close(found, weights, atol=1e-4, rtol=0)
    names = AutoTokenizer.from_pretrained(MODEL)
    assert seen["source"] == names.convert_ids_to_tokens(names(text)["input_ids"])  # one character each
    assert "".join(seen["rows"]) == f"{translation}</s>" and seen["reads"][1:] == seen["rows"][:-1]


def test_what_is_drawn_are_these_weights(page, model):
    """The table of look has four digits, of weights that were kept in 16 bits."""
    translation, weights = expected(model, TEXTS[1])
    ask(page, TEXTS[1])
    assert page.inner_text("#answer") == translation
    frame = page.frame_locator("#look")
    frame.locator("html[data-ready]").wait_for()
    for layer, head in ((0, 1), (len(weights) - 1, 0)):
        frame.locator(f"#heads button[data-layer='{layer}'][data-head='{head}']").click()
        frame.locator("#views button[data-name=table]").click()
        rows = frame.locator("#picture table tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => Number(cell.textContent)))"
        )
        torch.testing.assert_close(torch.tensor(rows)[:, :-1], weights[layer, head], atol=6e-4, rtol=0)
        torch.testing.assert_close(torch.tensor(rows)[:, -1], torch.ones(len(rows)), atol=1e-4, rtol=0)


def test_both_languages(page):
    first = page.get_attribute("html", "lang")
    assert first == page.evaluate("navigator.language.slice(0, 2)")
    ask(page, TEXTS[0])
    inside = page.frame_locator("#look").locator("html")
    for language in ({"en": "ko", "ko": "en"}[first], first):
        page.click("#language")
        assert page.get_attribute("html", "lang") == language
        page.frame_locator("#look").locator(f"html[lang={language}]").wait_for()
        assert ("번역" in page.inner_text("#run")) == (language == "ko") == ("헤드" in inside.inner_text())


def test_what_cannot_be_read_is_said(page, model):
    ask(page, "  ")
    empty = page.inner_text("#note")
    ask(page, "x" * 100)
    note = page.inner_text("#note")
    assert empty and "101" in note and str(model.config.max_position_embeddings) in note
    assert page.inner_text("#answer") == "" and page.is_hidden("#look")
    ask(page, "<b>&amp;</script>")  # is text to the page
    assert page.is_visible("#look")
