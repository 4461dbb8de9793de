# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""One page, one file: a view as HTML that opens without a server, a network or a library.

The page holds its own style, script and data, and a policy that allows that script and that style alone, by their
hashes. Tokens come from a stranger's tokenizer: they travel as JSON that cannot end its element, and the script sets
them as text only (the policy forbids it to parse any as HTML).

Letters as in view.py, with t, s for the cells of a map, at most `view.CELLS`, and of a small picture, at most `SMALL`.
"""

import base64
import hashlib
import html
import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import torch
from torch.nn.functional import avg_pool2d

from .view import TEMPERATURES, Map, Numbers, Step, View

SMALL = 64
"""Rows and columns of the small picture that every head gets, at most."""

LIMIT = 20_000_000
"""Bytes of a page, at most: more is slow to open, and mail refuses it."""

SCRIPTS = ("words", "data", "parts", "equations", "heads", "matrix", "arcs", "table", "reader")
SCRIPTS += ("numbers", "next", "search", "main")
"""The files of the script, in the order in which they are joined."""


def write_page(view: View, path: Path) -> None:
    """Write all that was seen as one HTML file.

    Raises:
        ValueError: If the page would have more than `LIMIT` bytes; nothing is written then.
    """
    page = render(view).encode("utf-8")
    if len(page) > LIMIT:
        raise ValueError(
            f"the page would have {len(page) / 1e6:.1f} MB, and {LIMIT / 1e6:.0f} MB are allowed: choose fewer layers, "
            "heads or numbers"
        )
    path.write_bytes(page)


def render(view: View) -> str:
    """Return the page of a view."""
    style = asset("page.css")
    script = '"use strict";\n' + "\n".join(asset(f"{name}.js") for name in SCRIPTS)
    policy = [
        "default-src 'none'",
        f"script-src {digest(script)}",
        f"style-src {digest(style)}",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    slots = {
        "policy": "; ".join(policy),
        "title": html.escape(view.model),
        "style": style,
        "data": as_data(page_data(view)),
        "script": script,
    }
    page = asset("page.html")
    before, *rest = page.split("{{")
    return before + "".join(slots[name] + text for name, text in (piece.split("}}", 1) for piece in rest))


def asset(name: str) -> str:
    """Return the text of a file of the page."""
    return (files(__package__) / "page-assets" / name).read_text("utf-8")


def digest(text: str) -> str:
    """Return what a content security policy calls this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def as_data(data: dict) -> str:
    """Return JSON for inside a script element: nothing in it can end the element or open a comment."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def packed(values: torch.Tensor, dtype: torch.dtype = torch.float32) -> str:
    """Return the bytes of a tensor, little-endian, row by row, as base64."""
    return base64.b64encode(values.detach().to("cpu", dtype).contiguous().numpy().tobytes()).decode()


def page_data(view: View) -> dict:
    """Return what the script reads: plain fields as they are, tensors packed."""
    return {
        "model": view.model,
        "architecture": view.architecture,
        "text": view.text,
        "target": view.target,
        "maps": [map_data(seen, view.exact) for seen in view.maps],
        "numbers": [numbers_data(numbers) for numbers in view.numbers],
        "temperatures": TEMPERATURES,
        **steps_data(view.steps),
        "search": asdict(view.search) if view.search else None,
    }


def map_data(seen: Map, exact: list) -> dict:
    """Return a map: every head small, the exact ones whole, and the sum of each row of all.

    A cell of an averaged map is the mean of its pairs, so a row's sum counts each cell as often as it has keys.
    """
    t, s = seen.weights.shape[2:]
    small, strongest = small_pictures(seen.weights)
    keys = torch.full((s,), -(-len(seen.columns) // s))
    keys[-1] = len(seen.columns) - keys[:-1].sum()
    whole = [
        {"layer": layer, "head": head, "weights": packed(seen.weights[i, j], torch.float16)}
        for i, layer in enumerate(seen.layers)
        for j, head in enumerate(seen.heads)
        if (seen.kind, layer, head) in exact
    ]
    return {
        "kind": seen.kind,
        "rows": seen.rows,
        "columns": seen.columns,
        "reads": seen.reads,
        "layers": seen.layers,
        "heads": seen.heads,
        "cells": [t, s],
        "small": {"cells": list(small.shape[2:]), "bytes": packed(small, torch.uint8), "strongest": packed(strongest)},
        "sums": packed(seen.weights @ keys.to(seen.weights.dtype)),
        "hidden": packed(seen.hidden, torch.uint8),
        "exact": whole,
    }


def small_pictures(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Average weights (L, H, t, s) over equal blocks to `SMALL` cells a side at most, one byte each.

    A byte is 255 sqrt(weight / strongest of its picture): weak weights keep more steps than strong ones.

    Returns:
        Bytes (L, H, t, s) and the strongest weight of each picture (L, H).
    """
    block = [-(-size // SMALL) for size in weights.shape[2:]]
    means = avg_pool2d(weights.float().nan_to_num(), block, ceil_mode=True, count_include_pad=False)
    strongest = means.amax((2, 3))
    shares = means / strongest[..., None, None].clamp(min=1e-30)
    return (255 * shares.clamp(0, 1).sqrt()).round(), strongest


def numbers_data(numbers: Numbers) -> dict:
    """Return queries, keys and values of one head."""
    return {
        "kind": numbers.kind,
        "layer": numbers.layer,
        "head": numbers.head,
        "width": numbers.queries.shape[1],
        "value_width": numbers.values.shape[1],
        "queries": packed(numbers.queries),
        "keys": packed(numbers.keys),
        "values": packed(numbers.values),
        "scaling": numbers.scaling,
        "bias": None if numbers.bias is None else packed(numbers.bias),
    }


def steps_data(steps: list[Step]) -> dict:
    """Return the steps of writing; a label that comes at many steps is held once, in `labels`."""
    labels = {label: i for i, label in enumerate(dict.fromkeys(label for step in steps for label in step.labels))}
    return {
        "labels": list(labels),
        "steps": [
            {
                "written": step.written,
                "labels": packed(torch.tensor([labels[label] for label in step.labels]), torch.int32),
                "logits": packed(torch.tensor(step.logits)),
                "rest": packed(torch.tensor(step.rest)),
            }
            for step in steps
        ],
    }
