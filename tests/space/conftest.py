# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Small models that have learnt a few lines by heart, the page of space/ as a real process, and a real browser."""

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import tokenizer as tokenizers
from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaForQuestionAnswering,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
)

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LOOPBACK = ("http://127.0.0.1:", "data:", "blob:")
NOTHING = "There is nothing to read"
PATIENCE = 60_000  # milliseconds: on a busy machine a page that is right may be slow
SHARED = dict(
    label_smoothing=0.0, d_model=32, d_ff=48, num_heads=4, num_layers=2, dropout=0.0, attn_implementation="eager"
)


def learn(model, batch: dict, steps: int) -> None:
    """Train on one batch until it is known by heart."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1, loss
    model.eval()


def save(model, tokenizer, folder: Path, samples=()) -> Path:
    """Save a model as it is published; its code comes along."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps({"samples": list(samples)}), encoding="utf-8")
    return folder


def build(kind: str, template: str, texts: list[str], limit: int):
    """Return a tokenizer of these texts."""
    return tokenizers.build(kind, texts, 300, template, min_frequency=1, show_progress=False, model_max_length=limit)


@pytest.fixture(scope="session")
def translator(tmp_path_factory):
    """Return a folder with a translator that knows three dates."""
    pairs = {
        "Friday, November 20, 2026": "2026년 11월 20일 금요일",
        "the 3rd of May, 1999": "1999년 5월 3일",
        "24-Jun-1986": "1986년 6월 24일",
    }
    tokenizer = build("char", "seq2seq", [*pairs, *pairs.values(), "<>/abimgsrx=onerror()"], 48)
    config = VanillaConfig(vocab_size=len(tokenizer), max_position_embeddings=48, **SHARED)
    torch.manual_seed(0)
    model = VanillaForConditionalGeneration(config)
    batch = tokenizer(list(pairs), padding=True, return_tensors="pt")
    labels = tokenizer(list(pairs.values()), padding=True, return_tensors="pt")["input_ids"]
    learn(model, batch | {"labels": labels.masked_fill(labels == tokenizer.pad_token_id, -100)}, 200)
    samples = [{"source": source, "reference": target, "prediction": target} for source, target in pairs.items()]
    return save(model, tokenizer, tmp_path_factory.mktemp("models") / "dates", samples)


@pytest.fixture(scope="session")
def completer(tmp_path_factory):
    """Return a folder with a decoder that knows one sentence."""
    text = "What is lost can be found."
    tokenizer = build("char", "causal", [text], 40)
    config = VanillaConfig(variant="decoder", vocab_size=len(tokenizer), max_position_embeddings=40, **SHARED)
    torch.manual_seed(0)
    model = VanillaForCausalLM(config)
    batch = tokenizer([text], return_tensors="pt")
    learn(model, batch | {"labels": batch["input_ids"]}, 60)
    return save(model, tokenizer, tmp_path_factory.mktemp("models") / "sentence")


@pytest.fixture(scope="session")
def filler(tmp_path_factory):
    """Return a folder with an encoder that knows which word is missing where."""
    texts = ["the film was released by the studio", "the cat sat on the mat"]
    tokenizer = build("wordpiece", "encoder", texts, 32)
    config = VanillaConfig(variant="encoder", vocab_size=len(tokenizer), max_position_embeddings=32, **SHARED)
    torch.manual_seed(0)
    model = VanillaForMaskedLM(config)
    masked = [texts[0].replace("released", "<mask>"), texts[1].replace("cat", "<mask>").replace("mat", "<mask>")]
    batch = tokenizer(masked, padding=True, return_tensors="pt")
    whole = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
    learn(model, batch | {"labels": whole.masked_fill(batch["input_ids"] != tokenizer.mask_token_id, -100)}, 60)
    return save(model, tokenizer, tmp_path_factory.mktemp("models") / "words")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """Return the final/ of a run whose model tells two labels apart."""
    texts, labels = ["a good film", "a bad film"], [1, 0]
    tokenizer = build("wordpiece", "encoder", texts, 16)
    config = VanillaConfig(
        variant="encoder",
        vocab_size=len(tokenizer),
        max_position_embeddings=16,
        id2label={0: "negative", 1: "positive"},
        **SHARED,
    )
    torch.manual_seed(0)
    model = VanillaForSequenceClassification(config)
    learn(model, tokenizer(texts, padding=True, return_tensors="pt") | {"labels": torch.tensor(labels)}, 60)
    return save(model, tokenizer, tmp_path_factory.mktemp("models") / "films" / "final")


@pytest.fixture(scope="session")
def tagger(tmp_path_factory):
    """Return a folder with a model that finds a name and a place."""
    names = ["B-LOC", "B-PER", "I-PER", "O"]
    rows = [("Kim Minsu visits Seoul", [1, 2, 3, 0]), ("Lee leaves Busan", [1, 3, 0])]
    tokenizer = build("wordpiece", "encoder", [text for text, _ in rows], 16)
    kinds = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    config = VanillaConfig(variant="encoder", vocab_size=len(tokenizer), max_position_embeddings=16, **kinds, **SHARED)
    torch.manual_seed(0)
    model = VanillaForTokenClassification(config)
    words = [text.split() for text, _ in rows]
    batch = tokenizer(words, is_split_into_words=True, padding=True, return_tensors="pt")
    labels = torch.full_like(batch["input_ids"], -100)
    for row, (_, tags) in enumerate(rows):
        owners = batch.word_ids(row)
        for word, tag in enumerate(tags):
            labels[row, owners.index(word)] = tag
    learn(model, batch | {"labels": labels}, 60)
    return save(model, tokenizer, tmp_path_factory.mktemp("models") / "names")


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """Return a folder with a model that knows who lives where, and that nothing says when."""
    text, questions = "Kim lives in Seoul", ["who", "where", "when"]
    tokenizer = build("wordpiece", "encoder", [text, *questions], 16)
    config = VanillaConfig(
        variant="encoder", vocab_size=len(tokenizer), max_position_embeddings=16, type_vocab_size=2, **SHARED
    )
    torch.manual_seed(0)
    model = VanillaForQuestionAnswering(config)
    batch = tokenizer(questions, [text] * 3, return_tensors="pt", return_token_type_ids=True)
    places = [batch.char_to_token(row, text.index(name), 1) for row, name in enumerate(("Kim", "Seoul"))]
    ends = torch.tensor([*places, 0])
    learn(model, batch | {"start_positions": ends, "end_positions": ends}, 100)
    samples = [{"text": text, "question": one, "answer": "", "prediction": ""} for one in questions[:2]]
    return save(model, tokenizer, tmp_path_factory.mktemp("models") / "answers", samples)


def environment(folder: Path) -> dict[str, str]:
    """Return what a process of the page sees: no network, no cache of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MODEL_", "GRADIO"))}
    return kept | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",  # the address has to be in the output as soon as it is printed
        "no_proxy": "127.0.0.1,localhost",
    }


@pytest.fixture
def command(tmp_path):
    """Return the words that start the page out of a folder of its own, as on the Hub, and its environment."""
    pytest.importorskip("gradio", reason="the page of space/ needs the extra `space`")
    shutil.copytree(ROOT / "space", tmp_path / "space", ignore=shutil.ignore_patterns("__pycache__"))
    return [sys.executable, str(tmp_path / "space" / "app.py")], environment(tmp_path)


@pytest.fixture
def serve(command, tmp_path):
    """Return a context in which the page of a model runs; it gives the address."""

    @contextmanager
    def run(model: Path, *options: str, **variables: str):
        words, surroundings = command
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        output = tmp_path / "output.txt"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [*words, "--model", str(model), "--port", str(port), *options],
                cwd=tmp_path,
                env=surroundings | variables,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        try:
            end = time.monotonic() + 120
            while f"http://127.0.0.1:{port}" not in output.read_text("utf-8"):
                assert process.poll() is None and time.monotonic() < end, output.read_text("utf-8")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
            assert "Traceback" not in output.read_text("utf-8"), output.read_text("utf-8")
        except BaseException:
            print(output.read_text("utf-8"))
            raise
        finally:
            process.terminate()
            process.wait(20)

    return run


class Visitor:
    """Somebody with a browser in front of the page."""

    def __init__(self, page):
        self.page, self.complaints = page, []
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", lambda line: self._hear(line.type, line.text))
        page.route(lambda address: not address.startswith(LOOPBACK), self._refuse)

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def _refuse(self, route) -> None:
        self.complaints.append(f"leaves the machine: {route.request.url}")
        route.abort()

    def ask(self, text: str, expected: str = "tokens read") -> str:
        """Type a text, press the button, wait for the line below the answer; return the answer.

        An empty text goes first: it takes away the last answer, which could be mistaken for the next.
        """
        for typed, line in ((" ", NOTHING), (text, expected))[expected == NOTHING :]:
            self.page.fill("#text textarea", typed)
            self.page.click("#run")
            self.page.locator("#note", has_text=line).wait_for()
        return self.page.input_value("#output textarea")

    def set(self, name: str, value: str) -> None:
        """Write a number into a field of the settings, and wait until the slider beside it shows it."""
        self.page.get_by_label(f"number input for {name}").fill(value)
        slider = self.page.get_by_label(f"range slider for {name}").element_handle()
        self.page.wait_for_function("([slider, value]) => slider.value == value", arg=[slider, value])

    def describe(self) -> None:
        """Print what stands in the fields and below the answer: all that can be known of a page that failed elsewhere."""
        for field in self.page.locator("input, textarea").all():
            print(field.get_attribute("aria-label"), repr(field.input_value()))
        print(self.page.locator("#note").all_inner_texts(), self.complaints)

    def expect_answer(self, text: str, answer: str) -> None:
        """Wait until the page shows a text and its answer."""
        for name, value in (("text", text), ("output", answer)):
            self.page.wait_for_function(
                f"([value]) => document.querySelector('#{name} textarea').value == value", arg=[value]
            )

    @contextmanager
    def speaking(self, language: str):
        """Open another browser window that asks for a language."""
        context = self.page.context.browser.new_context(locale=language)
        visitor = Visitor(context.new_page())
        visitor.page.set_default_timeout(PATIENCE)
        yield visitor
        assert visitor.complaints == []
        context.close()

    def choose(self, name: str, option: str) -> None:
        """Choose a layer or a head, and wait for its picture."""
        self.page.click(f"#{name} input")
        self.page.get_by_role("option", name=option, exact=True).click()
        self.page.locator(f"#picture figure svg[aria-label*='{option}']").wait_for()

    def labels(self) -> list[str]:
        """Return the labels of the picture: rows, then columns."""
        return self.page.locator("#picture figure svg text").evaluate_all(
            "nodes => nodes.map(node => node.textContent)"
        )

    def shares(self) -> np.ndarray:
        """Return the cells of the picture as shares of the strongest."""
        from PIL import Image

        address = self.page.get_attribute("#picture figure svg image", "href")
        picture = Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1])))
        return np.asarray(picture)[..., 3] / 255

    def fonts(self, selector: str) -> Counter:
        """Return which fonts the browser took for the text of some elements, with the number of glyphs out of each."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("DOM.enable")
        session.send("CSS.enable")
        root = session.send("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
        counts = Counter()
        for node in session.send("DOM.querySelectorAll", {"nodeId": root, "selector": selector})["nodeIds"]:
            for font in session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]:
                counts[font["familyName"]] += int(font["glyphCount"])
        return counts


@pytest.fixture
def visit():
    """Return a context in which a browser of a width shows an address; at its end nothing may have gone wrong."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")

    @contextmanager
    def open_page(address: str, width: int = 1280):
        with sync_api.sync_playwright() as driver:
            words = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=words)
            try:
                visitor = Visitor(browser.new_page(viewport={"width": width, "height": 900}))
                visitor.page.set_default_timeout(PATIENCE)
                visitor.page.goto(address)
                visitor.page.locator("#text textarea").wait_for()
                yield visitor
                assert visitor.complaints == []
            except BaseException:
                visitor.describe()
                raise
            finally:
                browser.close()

    return open_page
