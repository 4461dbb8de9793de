# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A view as a file: a page, a picture, or its numbers as JSON, by the ending of the name."""

import json
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from . import figure, svg
from .view import View

MOST_BYTES = 20 * 10**6


def write(view: View, path: str | Path) -> Path:
    """Write a view as `path` says: .html, .png, .svg, .pdf or .json. A file of that name is replaced when all is done.

    Raises:
        ValueError: Another ending; a view with more panels than a picture holds; a page of more than 20 MB.
    """
    path = Path(path)
    writer = writer_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".look-") as folder:
        staged = Path(folder) / f"view{path.suffix.lower()}"
        writer(view, staged)
        size = staged.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(
                f"{path}: {size / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} are written: choose layers, heads or a kind"
            )
        os.replace(staged, path)
    return path


def writer_of(path: Path) -> Callable[[View, Path], None]:
    """Return the function that writes such a file.

    Raises:
        ValueError: The ending is unknown.
    """
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"{path}: must end in {', '.join(WRITERS)}")
    return WRITERS[path.suffix.lower()]


def as_json(view: View) -> str:
    """Return all that a view holds; tensors as lists of 6 digits, what is infinite as null."""
    return json.dumps(_plain(view), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if torch.is_tensor(value):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _page(view: View, path: Path) -> None:
    from .page import write_page

    write_page(view, path)


def _json(view: View, path: Path) -> None:
    path.write_text(as_json(view) + "\n", encoding="utf-8")


WRITERS: dict[str, Callable[[View, Path], None]] = {
    ".html": _page,
    ".png": figure.draw,
    ".svg": svg.draw,
    ".pdf": figure.draw,
    ".json": _json,
}
