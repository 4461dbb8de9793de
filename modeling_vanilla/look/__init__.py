# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Look inside a model: its attention weights while it runs, as a page, a picture, a table."""

from .capture import Attention, Layer, averaged, capture, full, top

__all__ = ["Attention", "Layer", "averaged", "capture", "full", "top"]
