"""Size of the page of look/, and seconds until it is drawn in headless Chromium.

The view has the shape of a decoder's: all heads, one head's queries, keys and values, and the next tokens of each
step. Its numbers are drawn at random: they cost the page what a model's cost.

    python -m benchmarks.look_page
    python -m benchmarks.look_page --tokens 1024
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

from modeling_vanilla.look.page import write_page
from modeling_vanilla.look.view import CELLS, TEMPERATURES, Map, Numbers, Step, View

WIDTH = 64
"""Dimensions of a head, as in BERT-base, GPT-2 and the paper's models."""


def random_view(layers: int, heads: int, tokens: int) -> View:
    """Return a view of the size of a decoder that wrote all of its tokens."""
    cells = min(tokens, CELLS)
    hidden = torch.ones(cells, cells, dtype=torch.bool).triu(1)
    weights = torch.randn(layers, heads, cells, cells).masked_fill(hidden, -torch.inf).softmax(-1) * cells / tokens
    names = [f"w{i}" for i in range(tokens)]
    seen = Map("decoder", names, names, names, list(range(layers)), list(range(heads)), weights, hidden)
    numbers = Numbers("decoder", 0, 0, *torch.randn(3, tokens, WIDTH), scaling=WIDTH**-0.5)
    logits = torch.randn(tokens, 200).sort(descending=True)[0].tolist()
    labels = [f"token{i}" for i in range(200)]
    steps = [Step(labels[0], labels, row, [5.0 / temperature for temperature in TEMPERATURES]) for row in logits]
    exact = [("decoder", 0, head) for head in range(min(4, heads))]
    return View("random", "Decoder", " ".join(names), None, [seen], [numbers], steps, exact)


def opening(path: Path, runs: int) -> list[float]:
    """Return the seconds from asking for the file until all of it is drawn, each in a fresh window."""
    seconds = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(runs):
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            started = time.perf_counter()
            page.goto(path.as_uri())
            page.wait_for_selector("html[data-ready]")
            page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")  # it was painted
            seconds.append(time.perf_counter() - started)
            page.context.close()
        browser.close()
    return seconds


def main() -> None:
    """Write one page and open it several times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(0)
    view = random_view(args.layers, args.heads, args.tokens)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        started = time.perf_counter()
        write_page(view, path)
        written = time.perf_counter() - started
        size = path.stat().st_size / 1e6
        seconds = opening(path, args.runs)
    print("| layers x heads x tokens | MB | written, s | open, s: median | slowest |\n|---|---|---|---|---|")
    shape = f"{args.layers} x {args.heads} x {args.tokens}"
    print(f"| {shape} | {size:.1f} | {written:.2f} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")


if __name__ == "__main__":
    main()
