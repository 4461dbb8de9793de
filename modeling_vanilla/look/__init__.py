# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Look inside a model: its attention weights while it runs, as a page, a picture, a table."""

from .capture import Layer, capture
from .reading import Choice, look
from .view import View
from .weights import Attention, averaged, full, top
from .writing import as_json, write

__all__ = ["Attention", "Choice", "Layer", "View", "as_json", "averaged", "capture", "full", "look", "top", "write"]
